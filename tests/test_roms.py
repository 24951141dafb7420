"""ROMs are recognised by checksum wherever they lie, and land where stable-retro looks."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from genie_gym import cli
from genie_gym.errors import MissingDependencyError, MissingRomError
from genie_gym.retroact import catalogue, importer, roms

PACKAGE = Path(roms.__file__).parents[1]


def noise(size, seed):
    return np.random.default_rng(seed).integers(256, size=size, dtype=np.uint8).tobytes()


NES_BODY, GENESIS, SNES, ATARI = noise(40_000, 1), noise(0x8000, 2), noise(0x8000, 3), noise(999, 4)
NES = b"NES\x1a" + bytes(12) + NES_BODY


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder like stable-retro's with a few games and no ROMs."""
    folder = tmp_path / "retro"
    monkeypatch.setenv("RETRO_DATA_PATH", str(folder))
    for name, contents in {
        "Kangaroo-Atari2600": [noise(10, 9), ATARI],
        "Pong-Atari2600": [ATARI],
        "SuperMarioBros-Nes": [NES_BODY],
        "SonicTheHedgehog-Genesis": [GENESIS],
        "Hook-Snes": [SNES],
        "VirtuaFighter2-Genesis": [],
    }.items():
        game = folder / "stable" / f"{name}-v0"
        game.mkdir(parents=True)
        sums = [hashlib.sha1(content).hexdigest() for content in contents]
        (game / "rom.sha").write_text("\n".join(sums))
    return folder / "stable"


def zipped(**files):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def interleaved(plain):
    """The Super Magic Drive's format: a header, then blocks of odd bytes and even bytes."""
    blocks = [plain[k : k + 0x4000] for k in range(0, len(plain), 0x4000)]
    return bytes(512) + b"".join(block[1::2] + block[::2] for block in blocks)


def test_dumps_of_every_kind_are_recognised_and_others_are_not(data, tmp_path):
    source = tmp_path / "dumps" / "deep" / "er"
    source.mkdir(parents=True)
    (source / "anything.bin").write_bytes(ATARI)
    (source / "mario.nes").write_bytes(NES)
    (source / "hook.smc").write_bytes(bytes(512) + SNES)
    (source / "all.zip").write_bytes(zipped(more=zipped(sonic=interleaved(GENESIS)), text=b"hi"))
    (source / "torn.zip").write_bytes(zipped(sonic=GENESIS)[:-9])
    (source / "empty").write_bytes(b"")
    report = importer.import_roms([tmp_path / "dumps"])
    stored = {
        "Kangaroo-Atari2600-v0/rom.a26": ATARI,
        "Pong-Atari2600-v0/rom.a26": ATARI,
        "SuperMarioBros-Nes-v0/rom.nes": NES,
        "SonicTheHedgehog-Genesis-v0/rom.md": GENESIS,
        "Hook-Snes-v0/rom.sfc": SNES,
    }
    assert {
        str(path.relative_to(data)): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.name != "rom.sha"
    } == stored
    assert set(report.imported) == {name.split("-v0")[0] for name in stored}
    assert report.num_files == 9 and not report.already
    again = importer.import_roms([source / "anything.bin"])
    assert again.already == {"Kangaroo-Atari2600", "Pong-Atari2600"} and not again.imported


def test_damaged_archives_are_skipped(data, tmp_path):
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", method) as archive:
            archive.writestr("game", ATARI)
        damaged = bytearray(target.getvalue())
        damaged[34 + 20 : 34 + 400] = bytes([255]) * 380
        (tmp_path / f"{method}.zip").write_bytes(damaged)
    (tmp_path / "game.bin").write_bytes(ATARI)
    report = importer.import_roms([tmp_path])
    assert "Pong-Atari2600" in report.imported and not report.already


def test_an_arcade_rom_keeps_its_original_name(data, tmp_path):
    archive = zipped(board=noise(50, 5))
    game = data / "MortalKombat2-Arcade-v0"
    game.mkdir()
    (game / "rom.sha").write_text(hashlib.sha1(archive).hexdigest())
    (game / "metadata.json").write_text(json.dumps({"original_rom_name": "mk2.zip"}))
    (tmp_path / "renamed.zip").write_bytes(archive)
    importer.import_roms([tmp_path / "renamed.zip"])
    assert (game / "mk2.zip").read_bytes() == (game / "rom.zip").read_bytes() == archive
    assert roms.find_rom(game) == game / "mk2.zip"


def test_a_rom_that_cannot_be_written_leaves_nothing_behind(data, tmp_path):
    (data / "Pong-Atari2600-v0" / "rom.a26" / "in the way").mkdir(parents=True)
    (tmp_path / "dump").write_bytes(ATARI)
    with pytest.raises(PermissionError, match="RETRO_DATA_PATH"):
        importer.import_roms([tmp_path / "dump"])
    left = [path.name for path in (data / "Pong-Atari2600-v0").iterdir()]
    assert sorted(left) == ["rom.a26", "rom.sha"]


def test_a_missing_rom_is_named_with_its_sum_and_the_command(data):
    with pytest.raises(MissingRomError, match="genie-gym roms import PATH") as missing:
        roms.require_rom("Kangaroo-Atari2600")
    for content in (noise(10, 9), ATARI):
        assert hashlib.sha1(content).hexdigest() in str(missing.value)
    with pytest.raises(MissingRomError, match="not known to stable-retro"):
        roms.require_rom("VirtuaFighter2-Genesis")
    with pytest.raises(MissingRomError, match="upgrade stable-retro"):
        roms.require_rom("MegaMan-Nes")


def test_the_commands_count_what_can_be_played(data, tmp_path, capsys):
    (tmp_path / "dump").write_bytes(ATARI)
    assert cli.main(["roms", "import", str(tmp_path / "dump")]) == 0
    assert "2 games imported" in capsys.readouterr().out
    assert cli.main(["roms", "status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["playable"] == ["Kangaroo-Atari2600", "Pong-Atari2600"]
    assert status["known"] > 1000
    assert status["platforms"]["Atari2600"]["playable"] == 2
    assert cli.main(["roms", "status"]) == 0
    assert f"all                 2   {status['known']}" in capsys.readouterr().out
    (tmp_path / "other").write_bytes(b"no ROM")
    assert cli.main(["roms", "import", str(tmp_path / "other")]) == 1
    assert cli.main(["roms", "import", str(tmp_path / "nowhere")]) == 1
    assert "there is no file or folder" in capsys.readouterr().err
    assert cli.main(["roms", "import"]) == 1
    assert "--ale" in capsys.readouterr().err


def test_ale_py_brings_32_games(tmp_path, monkeypatch):
    real = roms.data_dir()
    for sums in real.glob("*/rom.sha"):
        target = tmp_path / "stable" / sums.parent.name
        target.mkdir(parents=True)
        (target / "rom.sha").write_bytes(sums.read_bytes())
    monkeypatch.setenv("RETRO_DATA_PATH", str(tmp_path))
    report = importer.import_roms([importer.ale_roms()])
    assert len(report.imported) == 32
    assert all(name.endswith("-Atari2600") for name in report.imported)
    for name in report.imported:
        assert roms.find_rom(roms.game_dir(name)).read_bytes()
    assert [game.name for game in catalogue.playable_games()] == sorted(report.imported)


def test_without_stable_retro_the_error_says_what_to_install():
    program = f"""
import sys, types
package = types.ModuleType("genie_gym")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["genie_gym"] = package
sys.path.append({str(PACKAGE.parent)!r})
from genie_gym.retroact import roms
roms.data_dir()
"""
    # -I and -S: a Python without anything installed
    command = [sys.executable, "-I", "-S", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    assert f"{MissingDependencyError.__name__}: the real retro games need stable-retro" in said
    assert "pip install" in said

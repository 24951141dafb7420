"""Worlds from a real web server on this machine: whole and verified, or not at all."""

import hashlib
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from genie_gym.cli import main
from tests.loopback import Site, serving
from world_models.worlds.address import hub_repository, parse_address
from world_models.worlds.card import MAX_BYTES, BundleError, WorldCard
from world_models.worlds.find import SHIPPED, VARIABLE, list_worlds, user_folder
from world_models.worlds.pull import BLOCK, DOWNLOADS, RemoteWorld, pulled_world

CUT = 3 * BLOCK + 17  # bytes after which a connection breaks
WEIGHTS = np.random.default_rng(0).bytes(5 * BLOCK + 1000)
SMALL = {"dynamics.safetensors": WEIGHTS, "starts.safetensors": b"# Ball\n"}


def card_of(files: dict[str, bytes], **changes) -> str:
    """A card of these files; `changes` replace entries of its `files`."""
    records = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    return WorldCard(
        name="Ball",
        action_set="ball",
        action_meanings=("LEFT", "RIGHT"),
        env_id="Ball-v0",
        tokenizer={"frame_size": 64},
        files={**records, **changes},
    ).to_json()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache of the user, and no other folder of worlds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def site(home):
    with serving(Site()) as site:
        put(site, SMALL, card_of(SMALL))
        yield site


def put(site: Site, files: dict[str, bytes], card: str) -> None:
    site.files = {f"/Ball/{name}": data for name, data in files.items()}
    site.files["/Ball/world.json"] = card.encode()


def pull(site: Site, *options: str) -> int:
    return main(["worlds", "pull", f"{site.url}/Ball", *options])


def contents(path: Path) -> dict[str, bytes]:
    """All files of a world but its README, which is written on this machine."""
    assert "# Ball" in (path / "README.md").read_text()
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "README.md"}


def whole(site: Site) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: data for path, data in site.files.items()}


def test_a_pulled_world_has_every_byte(site, capsys):
    assert pull(site) == 0
    assert contents(user_folder() / "Ball") == whole(site)
    assert list_worlds()["Ball"] == user_folder() / "Ball"
    asked = len(site.log)
    assert pull(site) == 0  # only the card is asked for
    assert len(site.log) == asked + 1 and "already" in capsys.readouterr().out


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(site, capsys, ranges):
    """Or begins again where the server cannot leave bytes out, to the same end."""
    site.cut_after, site.ranges = CUT, ranges
    assert pull(site) == 1
    assert f"of {len(WEIGHTS):,} bytes" in (said := capsys.readouterr().err) and "again" in said
    assert "Ball" not in list_worlds() and not (user_folder() / "Ball").exists()
    site.cut_after, site.sent = None, 0
    assert pull(site) == 0
    assert contents(user_folder() / "Ball") == whole(site)
    (asked,) = [begin for path, begin in site.log[-3:] if path.endswith("dynamics.safetensors")]
    assert asked is not None and 3 * BLOCK <= int(asked[6:-1]) <= CUT
    if ranges:
        assert site.sent < len(WEIGHTS) - 3 * BLOCK + 4096
    left = [file.suffix for file in (user_folder() / DOWNLOADS).iterdir()]
    assert set(left) <= {".lock"}


def test_a_tampered_file_is_refused(site, capsys):
    changed = bytearray(WEIGHTS)
    changed[len(changed) // 2] ^= 1
    put(site, {**SMALL, "dynamics.safetensors": bytes(changed)}, card_of(SMALL))
    assert pull(site) == 1
    assert "dynamics.safetensors does not have the checksum" in capsys.readouterr().err
    assert "Ball" not in list_worlds()
    put(site, SMALL, card_of(SMALL))  # mended at its source: nothing of the bad file is left
    assert pull(site) == 0
    assert contents(user_folder() / "Ball") == whole(site)


def test_what_is_larger_than_declared_is_not_read(site, capsys):
    site.files["/Ball/starts.safetensors"] = bytes(50 << 20)
    assert pull(site) == 1
    assert "starts.safetensors has more than the 7 bytes" in capsys.readouterr().err
    assert site.sent < len(WEIGHTS) + (20 << 20)  # what the sockets hold, not the whole file
    site.files["/Ball/world.json"] = bytes(MAX_BYTES + 1)
    with pytest.raises(BundleError, match="more than 1,048,576 bytes, the limit for a card"):
        RemoteWorld.read(f"{site.url}/Ball")


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("dynamics.safetensors", {"bytes": 1 << 60, "sha256": "0" * 64}, "the limit for a world"),
        ("dynamics.safetensors", {"bytes": -1, "sha256": "0" * 64}, "needs bytes and sha256"),
        ("dynamics.safetensors", {"bytes": 1, "sha256": "../../x"}, "needs bytes and sha256"),
        ("..", {"bytes": 1, "sha256": "0" * 64}, "names the file"),
        ("../escaped", {"bytes": 1, "sha256": "0" * 64}, "names the file"),
        ("world.json", {"bytes": 1, "sha256": "0" * 64}, "names the file"),
    ],
)
def test_a_card_that_declares_nonsense_is_refused_at_once(site, name, record, said):
    site.files["/Ball/world.json"] = card_of(SMALL, **{name: record}).encode()
    with pytest.raises(BundleError, match=said):
        RemoteWorld.read(f"{site.url}/Ball")
    assert [path for path, _ in site.log] == ["/Ball/world.json"]


def test_what_is_missing_is_named(site, capsys):
    del site.files["/Ball/dynamics.safetensors"]
    assert pull(site) == 1
    said = capsys.readouterr().err
    assert f"{site.url}/Ball/dynamics.safetensors is missing" in said and "Traceback" not in said
    assert main(["worlds", "pull", f"{site.url}/Bell"]) == 1
    assert f"{site.url}/Bell is not a world: it has no world.json" in capsys.readouterr().err


def test_another_world_is_replaced_only_when_asked(site, capsys):
    assert pull(site) == 0
    other = {**SMALL, "starts.safetensors": b"# Another ball\n"}
    put(site, other, card_of(other))
    assert pull(site) == 1
    assert "--name" in capsys.readouterr().err
    assert contents(user_folder() / "Ball")["starts.safetensors"] == b"# Ball\n"
    assert pull(site, "--name", "Ball2") == 0
    assert pull(site, "--replace") == 0
    assert contents(user_folder() / "Ball") == contents(user_folder() / "Ball2") == whole(site)
    assert pull(site, "--name", "../Ball3") == 1


def test_a_world_that_another_one_hides_is_not_announced(site, tmp_path, monkeypatch, capsys):
    assert pull(site) == 0
    shutil.copytree(user_folder() / "Ball", tmp_path / "first" / "Ball")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "first"))
    other = {**SMALL, "starts.safetensors": b"# Another ball\n"}
    put(site, other, card_of(other))
    capsys.readouterr()
    assert pull(site, "--replace") == 0
    assert f"export {VARIABLE}={user_folder()}" in capsys.readouterr().out


def test_gym_make_downloads_a_world_once(home):
    """The dream of an address is that of the world, and needs the server only once."""
    options = {"dtype": "float32", "num_threads": 1, "steps": 1}
    with serving(Site()) as site:
        for file in (SHIPPED / "Pong").iterdir():
            site.files[f"/worlds/Pong/{file.name}"] = file.read_bytes()
        address = f"{site.url}/worlds/Pong"
        env = gym.make("GenieRedux/Pong-v0", world=address, **options)
    asked = len(site.log)
    assert asked == len(site.files) - 1  # the README is written on this machine
    again = gym.make("GenieRedux/CoinRun-v0", world=f"{address}/world.json", **options)
    plain = gym.make("GenieRedux/Pong-v0", **options)
    frames = [e.reset(seed=1)[0] for e in (env, again, plain)]
    assert np.array_equal(frames[0], frames[2]) and np.array_equal(frames[1], frames[2])
    steps = [e.step(2)[0] for e in (env, again, plain)]
    assert np.array_equal(steps[0], steps[2]) and np.array_equal(steps[1], steps[2])
    assert len(site.log) == asked and "Pong" not in [p.name for p in (home / "cache").rglob("*")]


def test_addresses(tmp_path):
    for text, meant in {
        "https://example.org/w/Ball/": "https://example.org/w/Ball",
        "https://example.org/w/Ball/world.json": "https://example.org/w/Ball",
        "https://huggingface.co/ann/ball": "hf://ann/ball",
        "https://huggingface.co/ann/ball/tree/main": "hf://ann/ball",
        "https://huggingface.co/ann/ball/tree/v2": "hf://ann/ball@v2",
        "s3://bucket/ball": "s3://bucket/ball",
    }.items():
        assert parse_address(text) == meant
    assert hub_repository("hf://ann/ball@v2") == "ann/ball"
    assert hub_repository("s3://ann/ball") is None
    with pytest.raises(ValueError, match="hf://USER/NAME"):
        parse_address("hf://ball")
    with pytest.raises(ImportError, match="s3fs"):
        pulled_world("s3://bucket/ball", tmp_path)


def test_a_card_without_files_cannot_be_verified(site):
    site.files["/Ball/world.json"] = card_of({}).encode()
    with pytest.raises(BundleError, match="nothing can be verified"):
        RemoteWorld.read(f"{site.url}/Ball")

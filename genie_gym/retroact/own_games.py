"""Adds games that stable-retro does not know, such as homebrew games and hacks."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from genie_gym.actions import retro_platforms
from genie_gym.envs import emulator
from genie_gym.envs.emulator import EmulatorConfig
from genie_gym.envs.worker import SharedFrames, Worker
from genie_gym.errors import WorkerDiedError
from genie_gym.retroact import catalogue, roms
from genie_gym.retroact.importer import games_by_sha1, readings
from world_models.files import atomic_directory, write_json

__all__ = ["AddedGame", "add_game"]

# Maps suffixes that stable-retro does not know to the suffixes that it uses for the same format.
_OTHER_SUFFIXES = {"gen": "md", "smc": "sfc"}
_AMBIGUOUS = {"bin"}  # used on several platforms
_SMALLEST_ROM = 1024
_FILES = ("data.json", "scenario.json", "metadata.json", "*.state", "*.lua")
_PRESSED_FRAMES, _STEPS_BETWEEN = 10, 8  # after a button, 8 steps of 10 frames without buttons
_TIMEOUT = 20.0
_START = "Start"
_NO_VARIABLES = '{"info": {}}'


@dataclass(frozen=True, kw_only=True)
class AddedGame:
    """A game that was added.

    Attributes:
        env_id: Env id of the game.
        folder: Folder with the game's files; delete it to remove the game.
        taken: Names of the integration files that were copied.
        has_reward: Whether the game's scenario defines rewards.
        has_end: Whether the game's scenario defines when an episode ends.
        is_blank: Whether the whole screen had one colour at the end of the test run.
    """

    env_id: str
    folder: Path
    taken: tuple[str, ...]
    has_reward: bool
    has_end: bool
    is_blank: bool


def add_game(path: Path, *, name: str | None = None, press: Sequence[str] = ()) -> AddedGame:
    """Tests a ROM in an emulator and adds its game, which new processes can then use.

    Args:
        path: The ROM, or a folder with one ROM and stable-retro's integration files. If it is a
            ROM, the integration files next to it are copied if ``data.json`` is among them.
        name: The game's name, of letters and digits; by default the letters and digits of the
            file's name.
        press: Buttons to press one after another after the console is switched on, such as
            ``"START"``, or ``"A+B"`` for two at once. The state after the last button becomes the
            default start state.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the game cannot be added; none of its files are kept.
    """
    rom = _rom_in(path)
    platform, suffix = _platform(rom)
    content = _content(rom)
    title = _new_title(name if name is not None else re.sub("[^A-Za-z0-9]", "", rom.stem))
    pressed = _buttons(press, platform)
    integrated = path.is_dir() or (rom.parent / "data.json").is_file()
    given = [file for each in _FILES for file in sorted(rom.parent.glob(each)) if integrated]
    target = roms.own_dir() / f"{title}-{platform}-v0"
    with atomic_directory(target) as folder:
        for file in given:
            shutil.copyfile(file, folder / file.name)
        (folder / f"rom.{suffix}").write_bytes(content)
        (folder / "rom.sha").write_text(hashlib.sha1(content).hexdigest() + "\n")
        for missing, text in (("data.json", _NO_VARIABLES), ("scenario.json", "{}")):
            if not (folder / missing).exists():
                (folder / missing).write_text(text + "\n")
        _, screen, _, snapshot = emulator.unpacked(_try(folder, rom, platform, pressed))
        if pressed:
            _write_start(folder, snapshot)
    scenario = roms.read_json(target / "scenario.json")
    return AddedGame(
        env_id=f"RetroAct/{target.name}",
        folder=target,
        taken=tuple(file.name for file in given),
        has_reward=any(key in scenario for key in ("reward", "rewards")),
        has_end="done" in scenario,
        is_blank=len(set(zip(screen[::3], screen[1::3], screen[2::3], strict=True))) == 1,
    )


def _rom_in(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: check the path")
    if path.is_file():
        return path
    suffixes = _suffixes()
    found = [file for file in sorted(path.iterdir()) if file.suffix[1:].lower() in suffixes]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"expected one ROM in the folder {path}, found {names}: pass its path")
    return found[0]


def _suffixes() -> dict[str, tuple[str, str]]:
    """Returns a dict from a ROM's suffix to the platform and the suffix of the stored ROM."""
    known = {
        suffix: (platform, suffix)
        for platform, facts in roms.core_table().items()
        for suffix in facts["ext"]
        if platform in retro_platforms() and suffix not in _AMBIGUOUS
    }
    return known | {other: known[suffix] for other, suffix in _OTHER_SUFFIXES.items()}


def _platform(rom: Path) -> tuple[str, str]:
    suffixes = _suffixes()
    suffix = rom.suffix[1:].lower()
    if suffix not in suffixes:
        known = ", ".join(f".{each} ({suffixes[each][0]})" for each in sorted(suffixes))
        raise ValueError(f"no platform uses the suffix of {rom}: change it to one of {known}")
    return suffixes[suffix]


def _content(rom: Path) -> bytes:
    content = rom.read_bytes()
    if len(content) < _SMALLEST_ROM:
        raise ValueError(f"{rom} is not a ROM: expected at least 1 KiB, got {len(content)} bytes")
    known = games_by_sha1()
    for sha1, _ in readings(content):
        if sha1 in known:
            names = " and ".join(known[sha1])
            raise ValueError(
                f"{rom} is the ROM for {names}, which stable-retro knows. "
                f"Run: genie-gym roms import {rom}"
            )
    return content


def _new_title(title: str) -> str:
    if not re.fullmatch("[A-Za-z0-9]+", title):
        raise ValueError(f"a name may have only letters and digits, got {title!r}: add --name NAME")
    # A title is also the name of the game's world model, whatever the platform.
    taken = {game.title.lower(): game.name for game in catalogue.games()}
    taken |= {world.lower(): world for world in ("CoinRun", "CoinRunOfficial")}
    if title.lower() in taken:
        raise ValueError(
            f"a game named {taken[title.lower()]} already exists: choose another name with "
            "--name NAME"
        )
    return title


def _buttons(press: Sequence[str], platform: str) -> list[tuple[str, ...]]:
    known = [button for button in roms.core_table()[platform]["buttons"] if button]
    pressed = [tuple(together.split("+")) for together in press]
    for button in sum(pressed, ()):
        if button not in known:
            raise ValueError(
                f"{platform} has no button {button!r}: expected some of {', '.join(known)}"
            )
    return pressed


def _try(folder: Path, rom: Path, platform: str, pressed: list[tuple[str, ...]]) -> bytes:
    """Plays the game for a moment in a separate process; returns the last state."""
    config = EmulatorConfig(
        game=folder.name,
        folder=str(folder.parent),
        state=roms.default_state(folder) or None,
        buttons=((), *pressed),
        restricted=False,
        scripted=False,
        flicker=False,
        frame_skip=_PRESSED_FRAMES,
        frame_size=64,
        patience=2 * _TIMEOUT,
    )
    actions = [0] * _STEPS_BETWEEN
    for action in range(1, len(pressed) + 1):
        actions += [action] + [0] * _STEPS_BETWEEN
    worker = Worker(config, frames=SharedFrames((1, 64, 64, 3)), row=0, timeout=_TIMEOUT)
    with closing(worker):
        try:
            worker.ask(emulator.RESET)
            worker.answer()
            for action in actions:
                worker.ask(emulator.STEP, bytes([action]))
                worker.answer()
            worker.ask(emulator.SAVE)
            return worker.answer()
        except WorkerDiedError as death:
            reason = str(death).splitlines()[-1]
            raise ValueError(
                f"the emulator for {platform} cannot run {rom} with the files next to it: {reason}"
            ) from None


def _write_start(folder: Path, snapshot: bytes) -> None:
    (folder / f"{_START}.state").write_bytes(gzip.compress(snapshot))
    metadata = roms.read_json(folder / "metadata.json")
    metadata.pop("default_player_state", None)
    write_json(folder / "metadata.json", metadata | {"default_state": _START})

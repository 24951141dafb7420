"""The commands `genie-gym roms status`, `genie-gym roms import` and `genie-gym roms add`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genie_gym.retroact import catalogue, importer, roms
from world_models.command_line import parse

__all__ = ["Add", "Import", "Status", "roms_main"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Shows how many games can be played on this machine, for each platform."""

    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Imports ROMs that you own into stable-retro's folder; recognises them by checksum."""

    paths: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Files, folders and zip archives to search."""
    ale: bool = False
    """Import the Atari 2600 ROMs that ship with the ale-py package."""


@dataclass(frozen=True, kw_only=True)
class Add:
    """Adds a game that stable-retro does not know, such as a homebrew game or a hack."""

    file: tyro.conf.Positional[Path]
    """The ROM, or a folder with one ROM and stable-retro's integration files."""
    name: str | None = None
    """Name of the game in letters and digits, without the platform; by default the file name."""
    press: tuple[str, ...] = ()
    """Buttons to press one after another to get through the menus, e.g. START START A+B; episodes
    start after the last button."""


Command = (
    Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Add, tyro.conf.subcommand("add")]
)


def roms_main(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    command = parse(Command, argv, tyro.conf.OmitArgPrefixes, prog="genie-gym roms")
    if isinstance(command, Add):
        return _add(command)
    return _status(command) if isinstance(command, Status) else _import(command)


def _status(command: Status) -> int:
    known = Counter(game.platform for game in catalogue.games())
    playable = catalogue.playable_games()
    here = Counter(game.platform for game in playable)
    if command.json:
        platforms = {name: {"playable": here[name], "known": known[name]} for name in known}
        names = [game.name for game in playable]
        print(json.dumps({"playable": names, "known": known.total(), "platforms": platforms}))
        return 0
    rows = [(name, here[name], known[name]) for name in sorted(known)]
    print(f"{'platform':<12} {'playable':>8} {'known':>6}")
    for name, count, total in [*rows, ("all", here.total(), known.total())]:
        print(f"{name:<12} {count:>8} {total:>6}")
    print(f"\nfolder with the ROMs: {roms.data_dir()}")
    print(f"folder with your own games: {roms.own_dir()}")
    print("to add games: genie-gym roms import PATH, or genie-gym roms import --ale")
    print("to add a game that stable-retro does not know: genie-gym roms add FILE")
    return 0


def _import(command: Import) -> int:
    paths = [*command.paths, *([importer.ale_roms()] if command.ale else [])]
    if not paths:
        raise ValueError(
            "expected paths of ROMs: run genie-gym roms import PATH, or genie-gym roms import --ale"
        )
    report = importer.import_roms(paths)
    for name, source in sorted(report.imported.items()):
        print(f"{name}  <-  {source}")
    print(
        f"{len(report.imported)} games imported, {len(report.already)} already present, from "
        f"{report.num_files} files; {len(catalogue.playable_games())} games are playable now"
    )
    return 0 if report.imported or report.already else 1


def _add(command: Add) -> int:
    from genie_gym.retroact.own_games import add_game  # here, since it imports the emulator

    added = add_game(command.file, name=command.name, press=command.press)
    print(f"{added.env_id} is added: {added.folder}")
    if added.taken:
        print(f"  with these files that came with {command.file}: {', '.join(added.taken)}")
    missing = [
        what
        for what, defined in (
            ("its rewards are all 0", added.has_reward),
            ("its episodes end only by their length", added.has_end),
        )
        if not defined
    ]
    if missing:
        print(
            f"  {' and '.join(missing)}: to change this, write data.json and scenario.json in that "
            "folder (docs/real_games.md has an example)"
        )
    if added.is_blank:
        print(
            "  its screen has one colour so far: the game may wait for a button (--press), or the "
            "ROM is damaged"
        )
    return 0

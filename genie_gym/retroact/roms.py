"""stable-retro's files on this machine: game folders, start states and ROMs.

The files are read without importing stable-retro. Games are passed by name, since this module must
not import the catalogue, which imports this module.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from genie_gym.errors import MissingDependencyError, MissingRomError

OWN_VARIABLE = "GENIE_GYM_GAMES"  # environment variable with the folder of the user's own games

__all__ = [
    "OWN_VARIABLE",
    "core_table",
    "data_dir",
    "default_state",
    "expected_sha1",
    "find_rom",
    "game_dir",
    "installed_games",
    "is_playable",
    "own_dir",
    "own_games",
    "read_json",
    "require_rom",
    "rom_extension",
    "states",
]


def package_dir() -> Path:
    """Returns the folder of the installed stable-retro package.

    Raises:
        MissingDependencyError: If stable-retro is not installed.
    """
    if sys.platform == "win32":
        raise MissingDependencyError(
            "the real retro games need stable-retro, which has no build for Windows. "
            "Use WSL 2 (https://learn.microsoft.com/windows/wsl) and install genie-gym there"
        )
    spec = importlib.util.find_spec("stable_retro")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the real retro games need stable-retro, which is not installed. "
            "Run: pip install 'stable-retro>=1.0.1'"
        )
    return Path(spec.origin).parent


def data_dir() -> Path:
    """Returns the folder that contains the games' folders; respects ``$RETRO_DATA_PATH``."""
    package = package_dir()
    return Path(os.environ.get("RETRO_DATA_PATH") or package / "data") / "stable"


def own_dir() -> Path:
    """Returns the folder with the games that the user added; respects ``$GENIE_GYM_GAMES``."""
    import platformdirs  # imported here, since machines that only train do not need it

    named = os.environ.get(OWN_VARIABLE)
    folder = Path(named) if named else Path(platformdirs.user_data_dir("genie-gym")) / "games"
    return folder.expanduser().absolute()


def own_games() -> list[str]:
    """Returns the names of the games that the user added."""
    folders = [path.parent.name for path in own_dir().glob("*/rom.sha")]
    return sorted(
        name.removesuffix("-v0")
        for name in folders
        if re.fullmatch("[A-Za-z0-9]+-[A-Za-z0-9]+-v0", name)
    )


def game_dir(name: str) -> Path:
    """Returns the folder of a game; `name` is the game's `catalogue.Game.name`."""
    folder = data_dir() / f"{name}-v0"
    own = own_dir() / folder.name
    return own if own.is_dir() and not folder.is_dir() else folder


def installed_games() -> list[str]:
    """Returns the names of all games in the installed stable-retro."""
    return sorted(path.parent.name.removesuffix("-v0") for path in data_dir().glob("*/rom.sha"))


def is_playable(name: str) -> bool:
    """Returns whether a game's ROM is on this machine; False if stable-retro is not installed."""
    try:
        return find_rom(game_dir(name)) is not None
    except MissingDependencyError:
        return False


def states(folder: Path) -> list[str]:
    """Returns the names of the start states in a game's folder."""
    return sorted(
        path.name.removesuffix(".state")
        for path in folder.glob("*.state")
        if not path.name.startswith("_")
    )


def default_state(folder: Path) -> str:
    """Returns the start state for one player; an empty string for the power-on state."""
    metadata, known = read_json(folder / "metadata.json"), states(folder)
    wanted = [*metadata.get("default_player_state", [])[:1], metadata.get("default_state")]
    return next((state for state in wanted if state in known), "")


def find_rom(folder: Path) -> Path | None:
    """Returns the path of a game's ROM in its folder; None if it is missing."""
    original = read_json(folder / "metadata.json").get("original_rom_name")
    if original and (folder / original).is_file():
        return folder / original
    found = [path for path in folder.glob("rom.*") if path.suffix != ".sha" and path.is_file()]
    return found[0] if found else None


def require_rom(name: str) -> Path:
    """Returns the path of a game's ROM.

    Raises:
        MissingRomError: If the ROM has not been imported.
    """
    folder = game_dir(name)
    if not folder.is_dir():
        raise MissingRomError(
            f"the installed stable-retro does not have {name}: there is no {folder}. "
            "Run: pip install --upgrade stable-retro"
        )
    rom = find_rom(folder)
    if rom is None:
        sums = " or ".join(expected_sha1(folder)) or "not known to stable-retro"
        raise MissingRomError(
            f"the ROM for {name} is not on this machine (SHA-1: {sums}). If you own it, run: "
            "genie-gym roms import PATH (or genie-gym roms import --ale for the 32 Atari 2600 "
            "ROMs that ship with ale-py)"
        )
    return rom


def expected_sha1(folder: Path) -> list[str]:
    """Reads the SHA-1 sums of a game's accepted ROMs from the game's folder."""
    return (folder / "rom.sha").read_text().lower().split()


def rom_extension(platform: str) -> str:
    """Returns the file suffix of a platform's ROMs, with the dot."""
    if platform == "Arcade":
        return ".zip"
    return f".{core_table()[platform]['ext'][0]}"


def core_table() -> dict[str, dict[str, Any]]:
    """Returns stable-retro's facts about each platform, such as its buttons and file suffixes."""
    cores = [read_json(path) for path in sorted((package_dir() / "cores").glob("*.json"))]
    return {platform: info for core in cores for platform, info in core.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads the object in a JSON file; returns {} if the file is missing or invalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}

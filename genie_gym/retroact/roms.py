"""What stable-retro has on this machine: its games' folders, start states and ROMs.

All of it is read from files, without importing stable-retro. Games go by their names here: the
catalogue asks this module, which knows nothing of the catalogue.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from genie_gym.errors import MissingDependencyError, MissingRomError

__all__ = [
    "data_dir",
    "default_state",
    "expected_sha1",
    "find_rom",
    "game_dir",
    "installed_games",
    "is_playable",
    "read_json",
    "require_rom",
    "rom_extension",
    "states",
]


def package_dir() -> Path:
    """Where stable-retro is installed.

    Raises:
        MissingDependencyError: If it is not.
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
            "Type: pip install 'stable-retro>=1.0.1'"
        )
    return Path(spec.origin).parent


def data_dir() -> Path:
    """The folder of the games' folders; like stable-retro, heeds ``$RETRO_DATA_PATH``."""
    package = package_dir()
    return Path(os.environ.get("RETRO_DATA_PATH") or package / "data") / "stable"


def game_dir(name: str) -> Path:
    """The folder of a game, given by its name (`catalogue.Game.name`)."""
    return data_dir() / f"{name}-v0"


def installed_games() -> list[str]:
    """The names of the games that the installed stable-retro knows."""
    return sorted(path.parent.name.removesuffix("-v0") for path in data_dir().glob("*/rom.sha"))


def is_playable(name: str) -> bool:
    """Whether a game can be played here; no, where stable-retro is not installed."""
    try:
        return find_rom(game_dir(name)) is not None
    except MissingDependencyError:
        return False


def states(folder: Path) -> list[str]:
    """The start states of the game in a folder."""
    return sorted(
        path.name.removesuffix(".state")
        for path in folder.glob("*.state")
        if not path.name.startswith("_")
    )


def default_state(folder: Path) -> str:
    """The state that one player starts from; empty for the console's power-on."""
    metadata, known = read_json(folder / "metadata.json"), states(folder)
    wanted = [*metadata.get("default_player_state", [])[:1], metadata.get("default_state")]
    return next((state for state in wanted if state in known), "")


def find_rom(folder: Path) -> Path | None:
    """The ROM of the game in a folder, if it is there."""
    original = read_json(folder / "metadata.json").get("original_rom_name")
    if original and (folder / original).is_file():
        return folder / original
    found = [path for path in folder.glob("rom.*") if path.suffix != ".sha" and path.is_file()]
    return found[0] if found else None


def require_rom(name: str) -> Path:
    """The ROM of a game.

    Raises:
        MissingRomError: If it has not been imported.
    """
    folder = game_dir(name)
    if not folder.is_dir():
        raise MissingRomError(
            f"the stable-retro installed here does not know {name}: there is no {folder}. "
            "Type: pip install --upgrade stable-retro"
        )
    rom = find_rom(folder)
    if rom is None:
        sums = " or ".join(expected_sha1(folder)) or "not known to stable-retro"
        raise MissingRomError(
            f"the ROM of {name} is not on this machine (SHA-1: {sums}). If you own it, type: "
            "genie-gym roms import PATH (the 32 Atari 2600 ROMs that ale-py brings: "
            "genie-gym roms import --ale)"
        )
    return rom


def expected_sha1(folder: Path) -> list[str]:
    """The SHA-1 sums that the ROM of the game in a folder may have."""
    return (folder / "rom.sha").read_text().lower().split()


def rom_extension(platform: str) -> str:
    """The ending of a ROM's name on a platform, with its dot."""
    if platform == "Arcade":
        return ".zip"
    return f".{_extensions()[platform]}"


def _extensions() -> dict[str, str]:
    cores = [read_json(path) for path in sorted((package_dir() / "cores").glob("*.json"))]
    return {platform: info["ext"][0] for core in cores for platform, info in core.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file, or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}

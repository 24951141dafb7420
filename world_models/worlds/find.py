"""Finds world models on this machine. Importing this module does not load torch."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

from world_models.worlds.card import CARD

__all__ = [
    "VARIABLE",
    "WorldNotFoundError",
    "check_name",
    "find_world",
    "list_worlds",
    "search_folders",
]

VARIABLE = "GENIE_GYM_WORLDS"  # environment variable with folders, separated as in PATH
SHIPPED = Path(__file__).parent / "shipped"


class WorldNotFoundError(FileNotFoundError):
    """There is no world with this name on this machine."""


def search_folders() -> list[Path]:
    """Return the folders that may hold worlds, in order of precedence.

    The folders listed in the environment variable GENIE_GYM_WORLDS come first, then the user's own
    folder of worlds, then the folder of the worlds that ship with the package.
    """
    named = [Path(folder).expanduser() for folder in os.environ.get(VARIABLE, "").split(os.pathsep)]
    return [*(folder for folder in named if folder != Path()), user_folder(), SHIPPED]


def user_folder() -> Path:
    """Return the folder for this user's own worlds."""
    import platformdirs  # imported here, because machines that only train do not need it

    return Path(platformdirs.user_data_dir("genie-gym")) / "worlds"


def check_name(name: str) -> str:
    """Return the name if it can be the name of a world; raise ValueError if not."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"{name!r} cannot be the name of a world model: choose one with --name")
    return name


def list_worlds() -> dict[str, Path]:
    """Return all worlds on this machine by name. If a name occurs twice, the first folder wins."""
    found: dict[str, Path] = {}
    for folder in search_folders():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _is_world(path):
                found.setdefault(path.name, path)
    return found


def find_world(world: str | Path, how: str = "genie-gym build ENV") -> Path:
    """Return the path of a world's bundle, given this path, the world's name or its address.

    A world at an address, such as "hf://USER/NAME", is downloaded on first use.

    Args:
        world: Path, name or address of the world.
        how: The commands that make the world, for the error message.

    Raises:
        WorldNotFoundError: If there is no such world; the message lists the searched folders.
    """
    if "://" in str(world):
        import platformdirs  # imported here, like `pull`: only addresses need them

        from world_models.worlds.pull import pulled_world

        return pulled_world(str(world), Path(platformdirs.user_cache_dir("genie-gym")) / "pulled")
    if _is_world(Path(world)):
        return Path(world)
    worlds = list_worlds()
    if str(world) in worlds:
        return worlds[str(world)]
    near = get_close_matches(str(world), worlds, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    places = "\n".join(f"  {folder}" for folder in search_folders())
    raise WorldNotFoundError(
        f"no world {str(world)!r} on this machine.{hint} It is neither the path of a bundle nor a "
        f"folder in\n{places}\n(Set ${VARIABLE} to add folders.) `genie-gym worlds list` lists "
        f"the worlds there. To make this world:\n  {how}"
    )


def _is_world(path: Path) -> bool:
    return (path / CARD).is_file()

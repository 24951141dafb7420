"""The RetroAct catalogue: every stable-retro game, and the games that the user added.

A table that ships with the package lists stable-retro's games, so that `import genie_gym` does not
have to search a thousand folders. A test compares the table with the installed stable-retro;
`python -m genie_gym.retroact.update` updates the table.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from genie_gym.retroact import roms
from genie_gym.retroact.labels import Labels

__all__ = ["TABLE", "Game", "dreamed", "game", "games", "playable_games"]

TABLE = Path(__file__).with_name("games.csv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Game:
    """One game on one platform.

    Attributes:
        name: stable-retro's id without the version, e.g. ``"SuperMarioBros-Nes"``.
        platform: The console, as stable-retro spells it.
        default_state: Name of the default start state; empty for the console's power-on state.
        num_states: Number of start states.
        labels: How the game looks and plays.
    """

    name: str
    platform: str
    default_state: str
    num_states: int
    labels: Labels

    @property
    def title(self) -> str:
        """The name without the platform."""
        return self.name.removesuffix(f"-{self.platform}")

    @property
    def retro_id(self) -> str:
        """stable-retro's own id; also the name of the game's folder."""
        return f"{self.name}-v0"

    @property
    def env_id(self) -> str:
        """The env id of the real game."""
        return f"RetroAct/{self.name}-v0"

    @property
    def playable(self) -> bool:
        """Whether the game's ROM is on this machine."""
        return roms.is_playable(self.name)

    @property
    def world(self) -> str:
        """The name of the game's world model: the title if it is unique, else `name`."""
        return self.title if _platforms_of_title()[self.title.lower()] == 1 else self.name

    @property
    def dream_id(self) -> str:
        """The env id of the game's dream, that is, of its world model's env."""
        return f"GenieRedux/{self.world}-v0"


@cache
def games() -> tuple[Game, ...]:
    """Returns all games, sorted by name."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        known = {
            row["game"]: Game(
                name=row["game"],
                platform=row["platform"],
                default_state=row["default_state"],
                num_states=int(row["num_states"]),
                labels=Labels.from_row(row),
            )
            for row in csv.DictReader(file)
        }
    own = {name: _own_game(name) for name in roms.own_games()}
    return tuple(sorted((own | known).values(), key=lambda game: game.name))


def game(name: str) -> Game:
    """Returns the game with this name.

    Args:
        name: Name as in `Game.name`, with or without ``-v0``.

    Raises:
        ValueError: If there is no such game; the message suggests similar names.
    """
    known = _by_name()
    wanted = str(name).removesuffix("-v0")
    if wanted in known:
        return known[wanted]
    folded = {key.lower(): key for key in known}
    near = [folded[key] for key in get_close_matches(wanted.lower(), folded, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"no game {name!r} among the {len(known)} RetroAct games.{hint}")


def playable_games() -> list[Game]:
    """Returns the games whose ROM has been imported.

    Raises:
        MissingDependencyError: If stable-retro is not installed.
    """
    return [game for game in games() if roms.find_rom(roms.game_dir(game.name)) is not None]


def _own_game(name: str) -> Game:
    folder = roms.own_dir() / f"{name}-v0"
    return Game(
        name=name,
        platform=name.rpartition("-")[2],
        default_state=roms.default_state(folder),
        num_states=len(roms.states(folder)),
        labels=Labels(),
    )


@cache
def dreamed() -> dict[str, Game]:
    """Returns all games as a dict from the names of their world models."""
    return {game.world: game for game in games()}


@cache
def _platforms_of_title() -> Counter[str]:
    return Counter(game.title.lower() for game in games())


@cache
def _by_name() -> dict[str, Game]:
    return {game.name: game for game in games()}

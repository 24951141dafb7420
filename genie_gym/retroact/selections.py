"""Named selections of games, for collecting episodes from many games at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from genie_gym.retroact import catalogue
from genie_gym.retroact.catalogue import Game
from genie_gym.retroact.query import games

__all__ = ["SELECTIONS", "Selection", "selection"]

# The 50 games that the paper's controllable model was trained on, by console.
_PAPER_50 = {
    "Nes": "adventureislandii supermariobros monsterparty pizzapop widget ninjagaiden swampthing "
    "catnindenteyandee castlevania monsterinmypocket joeandmac 8eyes jetsonscogswellscaper "
    "kamennoninjaakakage jackiechansactionkungfu kaiketsuyanchamaru2karakuriland shatterhand "
    "megaman circuscharlie bananaprince panicrestaurant",
    "Genesis": "tinhead fantasia aliensoldier midnightresistance earnestevans bubsyii mrnutz "
    "monsterlair flintstones captainplanetandtheplaneteers battletoadsdoubledragon smurfs "
    "chestercheetahtoocooltofool castleofillusion tinytoonadventuresbustershiddentreasure",
    "Snes": "hook superturrican greatcircusmysterystarringmickeyandminnie hurricanes "
    "bronkiethebronchiasaurus",
    "Sms": "fireandice spidermanreturnofthesinistersix asterixandthesecretmission "
    "superwonderboy runningbattle masterofdarkness psychicworld",
    "GameBoy": "asterixandobelix adventureisland",
}

# The games whose ROMs ship with ale-py.
_FREE_ATARI = (
    "Adventure AirRaid Alien Asterix Asteroids BeamRider Bowling Boxing Breakout ChopperCommand "
    "CrazyClimber ElevatorAction Enduro FishingDerby Freeway Frostbite Hero Jamesbond "
    "JourneyEscape Kangaroo MontezumaRevenge Phoenix Pong PrivateEye Qbert Robotank Seaquest "
    "Solaris StarGunner TimePilot UpNDown Zaxxon"
)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A named list of games.

    Attributes:
        name: Name of the selection; on the command line it has a leading ``@``.
        meaning: What the games have in common.
        games: All games of the selection, sorted by name.
    """

    name: str
    meaning: str
    games: tuple[Game, ...]

    @property
    def playable(self) -> tuple[Game, ...]:
        """The games whose ROM is on this machine."""
        return tuple(game for game in self.games if game.playable)

    @property
    def missing(self) -> tuple[Game, ...]:
        """The games whose ROM is missing."""
        return tuple(game for game in self.games if not game.playable)


def _platformers_200() -> list[Game]:
    return sorted(games(genre="pl"), key=lambda game: game.name.lower())[:200]


def _platformers_50() -> list[Game]:
    wanted = {
        f"{title}-{platform}" for platform, titles in _PAPER_50.items() for title in titles.split()
    }
    return [game for game in catalogue.games() if f"{game.title.lower()}-{game.platform}" in wanted]


def _consistent() -> list[Game]:
    return [game for game in games(genre="pl") if game.labels.consistent_controls]


def _playable_33() -> list[Game]:
    names = ["Airstriker-Genesis", *(f"{title}-Atari2600" for title in _FREE_ATARI.split())]
    return [catalogue.game(name) for name in names]


# Maps the name of each selection to its meaning and a function that returns its games.
SELECTIONS: dict[str, tuple[str, Callable[[], list[Game]]]] = {
    "platformers-200": ("the first 200 platformers in alphabetical order", _platformers_200),
    "platformers-50": ("the paper's list of 50 games with consistent actions", _platformers_50),
    "platformers-consistent": ("platformers that pass the paper's control filter", _consistent),
    "playable-33": ("games whose ROMs are part of stable-retro or ale-py", _playable_33),
    "playable-platformers": (
        "platformers whose ROM is on this machine",
        lambda: games(genre="pl", playable=True),
    ),
}


def selection(name: str) -> Selection:
    """Returns the selection with this name, with or without the leading ``@``.

    Raises:
        ValueError: If no selection has this name; the message lists all names.
    """
    name = name.removeprefix("@")
    if name not in SELECTIONS:
        near = get_close_matches(name, SELECTIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(SELECTIONS)
        raise ValueError(f"unknown selection {name!r}: expected one of {known}.{hint}")
    meaning, choose = SELECTIONS[name]
    return Selection(name=name, meaning=meaning, games=tuple(choose()))

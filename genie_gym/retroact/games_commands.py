"""The commands `genie-gym games [FILTERS]`, `games show`, `games probe` and `games sets`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genie_gym.errors import MissingDependencyError
from genie_gym.retroact import catalogue, roms
from genie_gym.retroact.catalogue import Game
from genie_gym.retroact.labels import CONTROLS, GENRES, MOTIONS, VIEWS, WORDS
from genie_gym.retroact.query import games
from genie_gym.retroact.selections import SELECTIONS, selection
from world_models.command_line import parse

__all__ = ["List", "Probe", "Sets", "Show", "games_main"]

Words = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class List:
    """Lists the games that match all filters. If a filter has several values, one must match."""

    platform: Words = ()
    """Platform: Nes, Genesis, Snes, Sms, Atari2600, GameBoy, ..."""
    view: Words = ()
    """Camera view: side, top, 3p, 1p, multi."""
    motion: Words = ()
    """Axes along which the player character moves: free, h, v, fixed, tube."""
    genre: Words = ()
    """Genre: pl (or platformer), space_shooter, fight, ..."""
    right: Words = ()
    """What RIGHT does: right, none, other, ..."""
    left: Words = ()
    """What LEFT does."""
    up: Words = ()
    """What UP does: climb, look, enter, none, ..."""
    down: Words = ()
    """What DOWN does: crouch, climb, none, ..."""
    jump: Words = ()
    """What the usual jump button does: jump, shoot, ..."""
    secondary: Words = ()
    """What the usual second button does: shoot, strike, run, ..."""
    evidence: Words = ()
    """Evidence for view, motion and genre: known, public, unsure."""
    controls_evidence: Words = ()
    """Evidence for the control labels: measured, known, public, unsure."""
    set: str | None = None
    """Only games in this selection; `genie-gym games sets` lists the selections."""
    playable: bool = False
    """Only games whose ROM is on this machine."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Shows the labels of a game."""

    game: tyro.conf.Positional[str]
    """Name of the game, e.g. SuperMarioBros-Nes."""
    json: bool = False
    """Print one JSON object instead of lines."""


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Lists the named selections, for use in `genie-gym collect @NAME`."""

    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measures in the emulator what each action does, from several states of a game."""

    games: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of the games."""
    all_playable: bool = False
    """Probe every game whose ROM is on this machine."""
    out: Path = Path("probe")
    """Folder for the results, GAME.json."""
    pictures: Path | None = None
    """Folder for the images, GAME.png, with a strip of frames per action; by default `out`."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Sets, tyro.conf.subcommand("sets")]
)


def games_main(argv: list[str]) -> int:
    """Runs the command, by default `list`; returns the exit status."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["list", *argv]
    command = parse(Command, argv, tyro.conf.OmitArgPrefixes, prog="genie-gym games")
    if isinstance(command, List):
        return _list(command)
    if isinstance(command, Show):
        return _show(command)
    return _sets(command) if isinstance(command, Sets) else _probe(command)


def _list(command: List) -> int:
    labels = ("view", "motion", "genre", *CONTROLS, "evidence", "controls_evidence")
    filters = {name: getattr(command, name) or None for name in ("platform", *labels)}
    found = games(playable=True if command.playable else None, **filters)
    if command.set is not None:
        chosen = {game.name for game in selection(command.set).games}
        found = [game for game in found if game.name in chosen]
    if command.json:
        print(json.dumps({"games": [_facts(game) for game in found]}))
        return 0
    width = max((len(game.name) for game in found), default=4)
    print(f"{'game':<{width}}  {'view':<5} {'motion':<6} {'genre':<13} controls")
    for game in found:
        shown = game.labels
        controls = " ".join(shown.controls.values())
        print(
            f"{game.name:<{width}}  {shown.view:<5} {shown.motion:<6} {shown.genre:<13} {controls}"
        )
    count = sum(game.playable for game in found)
    print(f"\n{len(found)} games, {count} of them playable here")
    _print_new_games()
    return 0


def _show(command: Show) -> int:
    game = catalogue.game(command.game)
    if command.json:
        print(json.dumps(_facts(game)))
        return 0
    labels = game.labels
    print(f"{game.title} ({game.platform})")
    print(f"  env id     {game.env_id}")
    print(f"  dream id   {game.dream_id}")
    print(f"  playable here: {'yes' if game.playable else 'no, its ROM is not imported'}")
    print(f"  starts in  {game.default_state or 'power-on'}, one of {game.num_states} states")
    if not labels.evidence:
        print("  no labels yet")
        return 0
    print(f"  view       {labels.view:<13} {VIEWS[labels.view]}")
    print(f"  motion     {labels.motion:<13} {MOTIONS[labels.motion]}")
    print(f"  genre      {labels.genre:<13} {GENRES[labels.genre]}")
    print(f"             these are {labels.evidence}")
    if labels.second_opinion:
        print(f"             second opinion: {labels.second_opinion}")
    for name, word in labels.controls.items():
        print(f"  {name.upper():<10} {word:<13} {labels.evidence_of(name)}: {WORDS[word]}")
    return 0


def _sets(command: Sets) -> int:
    chosen = [selection(name) for name in SELECTIONS]
    if command.json:
        print(json.dumps({each.name: [game.name for game in each.games] for each in chosen}))
        return 0
    print(f"{'selection':<23} {'games':>5} {'playable':>8}  meaning")
    for each in chosen:
        print(f"{each.name:<23} {len(each.games):>5} {len(each.playable):>8}  {each.meaning}")
    return 0


def _probe(command: Probe) -> int:
    from genie_gym.retroact.probe import ProbeConfig, probe

    chosen: Iterable[Game] = [catalogue.game(name) for name in command.games]
    if command.all_playable:
        chosen = catalogue.playable_games()
    if not chosen:
        raise ValueError("no game was named: use genie-gym games probe GAME, or --all-playable")
    for game in chosen:
        result = probe(game, ProbeConfig())
        path = result.write(command.out, command.pictures or command.out)
        print(f"{game.name}: " + "  ".join(f"{k.upper()} {v}" for k, v in result.words.items()))
        print(f"  responsive in {result.num_responsive} of {result.num_states} states; {path}")
    return 0


def _facts(game: Game) -> dict[str, object]:
    labels = game.labels
    return {
        "game": game.name,
        "title": game.title,
        "platform": game.platform,
        "env_id": game.env_id,
        "dream_id": game.dream_id,
        "playable": game.playable,
        "view": labels.view,
        "motion": labels.motion,
        "genre": labels.genre,
        "controls": labels.controls,
        "evidence": labels.evidence,
        "second_opinion": labels.second_opinion,
        "controls_evidence": {name: labels.evidence_of(name) for name in labels.controls},
    }


def _print_new_games() -> None:
    """Prints the games in the installed stable-retro that are missing from the table."""
    try:
        new = set(roms.installed_games()) - {game.name for game in catalogue.games()}
    except MissingDependencyError:
        return
    if new:
        print(
            f"the installed stable-retro has {len(new)} more games, which are not labelled: "
            f"{', '.join(sorted(new))}"
        )

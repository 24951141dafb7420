"""Reads and writes the format of the public annotation: the game labels published with the paper.

The format is a CSV file with the columns ``game`` and ``tags``. The tags are view, motion and
genre, separated by spaces. The game ids lack ``-v0``; some are in lower case, and some lack the
platform. The control labels are in a separate CSV file, with one column for each control.
docs/retroact.md names the paper.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from genie_gym.retroact import catalogue
from genie_gym.retroact.catalogue import Game
from genie_gym.retroact.labels import CONTROLS, check_word

__all__ = ["read_annotation", "read_controls", "todays_game", "write_annotation"]

_COLUMNS = ["game", "tags"]
_TAGS = ("view", "motion", "genre")
_CONTROL_COLUMNS = ["RIGHT", "LEFT", "UP", "DOWN", "ACTION_JUMP", "ACTION_SECONDARY"]


def todays_game(name: str) -> Game | None:
    """Returns the game that an id refers to; None if there is no such game or more than one.

    Args:
        name: Id in upper or lower case, with or without ``-v0`` and the platform.
    """
    matches = _by_spelling().get(name.strip().lower().removesuffix("-v0"), ())
    return matches[0] if len(matches) == 1 else None


def read_annotation(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Reads an annotation file.

    Returns:
        The labels of each game as a dict, and the ids that match no game or several games.

    Raises:
        ValueError: If a column is missing, a line does not have three tags, or a tag is not valid.
    """
    found: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} must have columns {_COLUMNS}, got {reader.fieldnames}")
        for row in reader:
            game = todays_game(row["game"])
            if game is None:
                unknown.append(row["game"])
                continue
            tags = (row["tags"] or "").split()
            if len(tags) != len(_TAGS):
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected view, motion and genre, "
                    f"got {row['tags']!r}"
                )
            found[game.name] = {k: check_word(k, tag) for k, tag in zip(_TAGS, tags, strict=True)}
    return found, unknown


def read_controls(path: Path) -> dict[str, dict[str, str]]:
    """Reads the control labels of the public annotation; returns the values by game and control.

    Raises:
        ValueError: If a column is missing or an id matches no game.
    """
    found: dict[str, dict[str, str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        wanted = ["game", *_CONTROL_COLUMNS]
        if not set(wanted) <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} must have columns {wanted}, got {reader.fieldnames}")
        for row in reader:
            game = todays_game(row["game"])
            if game is None:
                raise ValueError(f"{path}, line {reader.line_num}: no game {row['game']!r}")
            words = [row[column] for column in _CONTROL_COLUMNS]
            found[game.name] = dict(zip(CONTROLS, words, strict=True))
    return found


def write_annotation(path: Path, games: Iterable[Game]) -> None:
    """Writes an annotation file; games without labels are omitted."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([game.name, game.labels.tags] for game in games if game.labels.evidence)


@cache
def _by_spelling() -> dict[str, tuple[Game, ...]]:
    spellings: dict[str, list[Game]] = defaultdict(list)
    for game in catalogue.games():
        spellings[game.name.lower()].append(game)
        spellings[game.title.lower()].append(game)
    return {spelling: tuple(matches) for spelling, matches in spellings.items()}

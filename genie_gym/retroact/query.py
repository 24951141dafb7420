"""Searches the catalogue by labels, platform and playability."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from genie_gym.retroact import catalogue
from genie_gym.retroact.catalogue import Game
from genie_gym.retroact.labels import LABEL_COLUMNS, check_word

__all__ = ["games"]


def games(
    *, platform: str | Iterable[str] | None = None, playable: bool | None = None, **labels: object
) -> list[Game]:
    """Returns the games that match all filters, sorted by name.

    Args:
        platform: One platform, or a list; by default all platforms. Case does not matter.
        playable: True for games whose ROM is on this machine, False for games whose ROM is missing,
            None for both.
        **labels: Filters ``label=value`` or ``label=[value, ...]``, for any label in `Labels`. With
            several values, a game matches if it has any of them.

    Raises:
        ValueError: If a platform, label or label value does not exist.

    Examples:
        >>> [game.env_id for game in games(genre="pl", platform="Atari2600", jump="jump")]
        ['RetroAct/MontezumaRevenge-Atari2600-v0', 'RetroAct/Pitfall-Atari2600-v0']
    """
    wanted = {name: _words(name, words) for name, words in labels.items() if words is not None}
    platforms = None if platform is None else {_platform(name) for name in _as_list(platform)}
    return [
        game
        for game in catalogue.games()
        if (platforms is None or game.platform in platforms)
        and all(getattr(game.labels, name) in words for name, words in wanted.items())
        and (playable is None or game.playable == playable)
    ]


def _words(label: str, words: object) -> set[str]:
    known = [name for name in LABEL_COLUMNS if name not in ("measured", "second_opinion")]
    if label not in known:
        near = get_close_matches(label, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown label {label!r}: expected one of {', '.join(known)}.{hint}")
    return {check_word(label, word) for word in _as_list(words)}


def _platform(name: str) -> str:
    known = {game.platform.lower(): game.platform for game in catalogue.games()}
    if name.lower() not in known:
        platforms = ", ".join(known.values())
        raise ValueError(f"unknown platform {name!r}: expected one of {platforms}")
    return known[name.lower()]


def _as_list(words: object) -> list[str]:
    return [words] if isinstance(words, str) else [str(word) for word in words]  # type: ignore[attr-defined]

"""Measures the effect of an action by comparing its screens with the screens under NOOP."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from genie_gym.retroact.probe_play import ACTIONS, Branches

__all__ = ["Effect", "measure"]

_NOOP = ACTIONS.index("NOOP")
_RIGHT, _LEFT, _UP, _DOWN = _MOVES = [
    ACTIONS.index(name) for name in ("RIGHT", "LEFT", "UP", "DOWN")
]

# Thresholds, in pixels of the console's screen unless stated otherwise.
_SEEN = 1  # minimum number of changed pixels that count as a change
_MOVED = 4.5  # minimum displacement of a move; turning in place stays below it
_SUNK = 2.0  # minimum downward displacement of a crouch
_JUMPED = 4.0  # minimum height of a jump
_BACK = 0.4  # a jump must end below this fraction of its height
_DUCKED = 8.0  # maximum downward displacement of a crouch
_KEPT = 0.35  # a change is the character's move if they overlap by at least this fraction
_SAME = 0.5  # minimum fraction of a colour's pixels that a moving character keeps
_REACH = 14  # changes further than this from the character are separate objects
_AROUND = 12  # margin around a change in which background colours are counted
_SCROLL = 0.25  # fraction of changed pixels above which the whole screen is assumed to scroll


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The effect of an action in one state, compared with NOOP.

    Attributes:
        word: What the action does: ``right``, ``left``, ``up``, ``down``, ``jump`` or ``crouch``;
            ``sends`` if something leaves the character, ``in_place`` if the character changes
            without moving, or ``none``.
        dx: Displacement to the right, in pixels of the console's screen: the first clear
            displacement if there is one, else the median displacement after the last three steps.
        dy: Displacement downwards, measured in the same way.
        rise: Maximum height above the character's position under NOOP, in pixels.
        changed: Maximum fraction of pixels that differ from NOOP.
        memory: Number of bytes of the console's memory that differ from NOOP at the end.
        scrolled: Whether the displacement was measured from the scrolling of the screen, with
            the opposite sign.
    """

    word: str
    dx: float
    dy: float
    rise: float
    changed: float
    memory: int
    scrolled: bool


def measure(branches: Branches) -> dict[str, Effect]:
    """Returns a dict from the meaning of each action except NOOP to its effect."""
    still = branches.screens[_NOOP]
    changed = (branches.screens != still).any(axis=-1)  # (A, T, H, W)
    home = _home(changed)
    body = _body(changed)
    effects = {}
    for action, meaning in enumerate(ACTIONS.meanings):
        if action == _NOOP:
            continue
        memory = int((branches.memories[action, -1] != branches.memories[_NOOP, -1]).sum())
        effects[meaning] = _effect(
            still, branches.screens[action], changed[action], home, body, memory
        )
    return effects


def _home(changed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the character's position (y, x): the mean pixel that most moves change first."""
    heat = np.zeros(changed.shape[2:], np.float32)
    for action in _MOVES:
        seen = np.flatnonzero(changed[action].sum(axis=(1, 2)) >= _SEEN)
        if seen.size:
            heat += changed[action, seen[0]]
    if not heat.any():
        return np.array([changed.shape[2] / 2, changed.shape[3] / 2])
    return np.argwhere(heat == heat.max()).mean(axis=0)


def _body(changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns a mask ``(T, H, W)`` of the character under NOOP.

    The mask has the pixels that change when the character moves away, that is, the pixels that two
    opposite moves both change. If one direction is blocked, it has all pixels that the moves
    changed first.
    """
    both = (changed[_RIGHT] & changed[_LEFT]) | (changed[_UP] & changed[_DOWN])
    seen = [changed[move, np.argmax(changed[move].any(axis=(1, 2)))] for move in _MOVES]
    first = np.any(seen, axis=0)
    few = both.sum(axis=(1, 2)) < _SEEN
    return np.where(few[:, None, None], first, both)


def _effect(
    still: NDArray[np.uint8],
    acted: NDArray[np.uint8],
    changed: NDArray[np.bool_],
    home: NDArray[np.float64],
    body: NDArray[np.bool_],
    memory: int,
) -> Effect:
    shares = changed.mean(axis=(1, 2))
    scrolled = bool(np.median(shares) > _SCROLL)
    path = np.zeros((len(acted), 2))
    for time in range(len(acted)):
        both = min(changed[time].sum(), body[time].sum())
        missed = (changed[time] & body[time]).sum() >= _KEPT * both
        if changed[time].sum() >= _SEEN and (missed or scrolled):
            move = _scroll if scrolled else _displacement
            path[time] = move(still[time], acted[time], changed[time])
    moved = np.flatnonzero(np.abs(path).max(axis=1) >= _MOVED)
    # The first displacement counts, because the game may react to it and change the screen.
    dy, dx = path[moved[0]] if moved.size else np.median(path[-3:], axis=0)
    rise = float(max(0.0, -path[:, 0].min()))
    word = _word(path, dx, dy, rise, changed, home)
    return Effect(
        word=word,
        dx=round(float(dx), 1),
        dy=round(float(dy), 1),
        rise=round(rise, 1),
        changed=round(float(shares.max()), 5),
        memory=memory,
        scrolled=scrolled,
    )


def _displacement(
    still: NDArray[np.uint8], acted: NDArray[np.uint8], changed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the displacement (y, x) of the rare colours among the changed pixels.

    Common colours around the character are background, so the most common colour is ignored and the
    other colours are weighted by their rarity. The mean position of a colour's changed pixels moves
    with the character, even if other objects have the same colour.
    """
    codes = [picture.astype(np.int64) @ [1 << 16, 1 << 8, 1] for picture in (still, acted)]
    box = _box(changed)
    colours, counts = np.unique(np.stack([code[box] for code in codes]), return_counts=True)
    total, weights = np.zeros(2), 0.0
    for colour, count in zip(colours, counts, strict=True):
        left, come = (np.argwhere(changed & (code == colour)) for code in codes)
        few, many = sorted((len(left), len(come)))
        if count == counts.max() or not few or few < _SAME * many:
            continue  # background, or an object that appeared or disappeared
        weight = many / count**2
        total += weight * (come.mean(axis=0) - left.mean(axis=0))
        weights += weight
    return total / weights if weights else total


def _box(changed: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Returns the part of the screen around the changed pixels."""
    places = np.argwhere(changed)
    top, left = (places.min(axis=0) - _AROUND).clip(0)
    bottom, right = places.max(axis=0) + _AROUND
    return slice(top, bottom), slice(left, right)


def _scroll(
    still: NDArray[np.uint8], acted: NDArray[np.uint8], changed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the displacement (y, x) of the camera relative to the screen under NOOP."""
    grey = [
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) for picture in (still, acted)
    ]
    (dx, dy), response = cv2.phaseCorrelate(*grey)
    return -np.array([dy, dx]) if response > 0.1 else np.zeros(2)


def _word(
    path: NDArray[np.float64],
    dx: float,
    dy: float,
    rise: float,
    changed: NDArray[np.bool_],
    home: NDArray[np.float64],
) -> str:
    if changed.sum(axis=(1, 2)).max() < _SEEN:
        return "none"
    if rise >= _JUMPED and dy < 0 and -path[-1, 0] <= _BACK * rise and abs(dx) <= rise:
        return "jump"
    if _SUNK <= dy <= _DUCKED and abs(dx) < dy and np.ptp(path[3:, 0]) < _SUNK:
        return "crouch"
    if max(abs(dx), abs(dy)) >= _MOVED:
        if abs(dx) >= abs(dy):
            return "right" if dx > 0 else "left"
        return "down" if dy > 0 else "up"
    distances = [
        np.abs(np.argwhere(mask) - home).max(axis=1).max() if mask.any() else 0.0
        for mask in changed
    ]
    if max(distances) - min(distances[:2]) > _REACH:
        return "sends"
    return "in_place"

"""Chooses a preset (how frames become tokens) from a game's labels or a trial of random play."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from genie_gym.envs.make import make_rows
from genie_gym.retroact import catalogue

__all__ = ["Kind", "camera_moves", "kind_by_labels", "kind_of"]

Kind = Literal["sprites", "scenes"]
# Genres whose camera usually scrolls, follows the player, or shows the player's view.
_SCROLLING = ("pl", "pl_fly", "space_shooter", "shooter", "action", "race", "sim")

_EPISODES, _STEPS, _HELD = 4, 200, 4  # the trial: random actions, each held for a few steps
_PATCH = 8  # side length of a patch in pixels
_CHANGE = 2e-4  # a patch changes if its mean squared difference (colours 0 to 1) is above this
_MOST = 0.5  # a step moves the camera if more than this fraction of the patches changes
_OFTEN = 0.1  # a game has a moving camera if more than this fraction of the steps moves it


def kind_of(env: str, **kwargs: Any) -> Kind:
    """Returns the preset for an env.

    For a game with few sprites on still backgrounds, a patch codebook can be trained within
    minutes. A moving camera shows new patches all the time, so such games need a neural network.
    If a game's labels suggest a moving camera, or if an env has no labels, the preset is chosen in
    a short trial of random play.

    Args:
        env: The env id.
        **kwargs: Keyword arguments of the env.
    """
    if kind_by_labels(env) == "sprites":
        return "sprites"
    return "scenes" if camera_moves(env, **kwargs) else "sprites"


def kind_by_labels(env: str) -> Kind | None:
    """Returns the preset that a game's labels suggest; None for an env without labels."""
    if env.startswith("Procgen/"):
        return "scenes"
    games = {game.env_id: game for game in catalogue.games()}
    if env not in games:
        return None
    labels = games[env].labels
    gallery = labels.view == "side" and labels.motion == "h"
    follows = labels.genre in _SCROLLING and not gallery
    moves = follows or labels.view in ("1p", "3p", "multi")
    return "scenes" if moves and games[env].platform != "Atari2600" else "sprites"


def camera_moves(env: str, **kwargs: Any) -> bool:
    """Returns whether most of the frame changes in many steps of random play."""
    rows, rng = make_rows(env, _EPISODES, **kwargs), np.random.default_rng(0)
    last, _ = rows.reset(seed=0)
    moved = []
    for step in range(_STEPS):
        if step % _HELD == 0:
            actions = rng.integers(rows.single_action_space.n, size=_EPISODES)  # type: ignore[attr-defined]
        frames, *_ = rows.step(actions)
        moved.append(_changed(last, frames).mean(-1) > _MOST)
        last = frames
    rows.close()
    return bool(np.mean(moved) > _OFTEN)


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns which patches differ between two batches ``(B, H, W, 3)``, as bool ``(B, N)``."""
    error = np.square((after.astype(np.float32) - before) / 255).mean(-1)
    rows, height, width = error.shape
    grid = error.reshape(rows, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
    return (grid.mean((2, 4)) > _CHANGE).reshape(rows, -1)

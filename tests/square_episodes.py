"""A tiny game that can be known completely: a square that actions move around a torus."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from world_models.episodes import Episode, EpisodeInfo, EpisodeWriter

ACTIONS = ("NOOP", "RIGHT", "LEFT", "UP", "DOWN")
MOVES = np.array([(0, 0), (0, 4), (0, -4), (-4, 0), (4, 0)])


def make_episode(index: int, length: int = 24, size: int = 16) -> Episode:
    """A 4x4 square on a grey ground; reaching the top left corner pays."""
    rng = np.random.default_rng(index)
    place = rng.integers(size // 4, size=2) * 4
    actions = rng.integers(len(ACTIONS), size=length)
    frames = np.full((length + 1, size, size, 3), 60, np.uint8)
    rewards = np.zeros(length, np.float32)
    for t in range(length + 1):
        y, x = place
        frames[t, y : y + 4, x : x + 4] = (250, 200, 40)
        if t < length:
            place = (place + MOVES[actions[t]]) % size
            rewards[t] = float(not place.any())
    return Episode(
        frames=frames,
        actions=actions,
        rewards=rewards,
        terminated=False,
        truncated=True,
        info=EpisodeInfo(
            env_id="Test/Square-v0",
            action_set="square-5",
            action_meanings=ACTIONS,
            index=index,
            policy="random",
        ),
    )


def write_episodes(
    path: Path, num: int = 24, length: int = 24, size: int = 16, **options: int
) -> Path:
    """A dataset of them; for the options see `EpisodeWriter`."""
    with EpisodeWriter(path, **options) as writer:
        for index in range(num):
            writer.add(make_episode(index, length, size))
    return path

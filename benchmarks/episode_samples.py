"""Real episodes for the benchmarks of the episode store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from genie_gym.collect.collector import Collection, play_episodes
from world_models.episodes import Episode


def play(env_id: str, num_episodes: int, *, num_envs: int, max_steps: int = 500) -> list[Episode]:
    """Episodes of the random policy."""
    collection = Collection(env_id=env_id, max_steps=max_steps)
    episodes = play_episodes(collection, list(range(num_episodes)), num_envs=num_envs)
    return sorted(episodes, key=lambda episode: episode.info.index or 0)


def pin_to_one_core() -> None:
    """Make every figure from here on one per core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def per_second(read: Callable[[], object], seconds: float) -> float:
    """How often `read` runs in a second: the median of five stretches, after a warm-up."""
    read()
    rates = []
    for _ in range(5):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / 5:
            read()
            count += 1
        rates.append(count / elapsed)
    return sorted(rates)[2]

"""Compare the speed of collecting and writing episodes with the speed of the bare vector env."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

from genie_gym.collect.collector import Collection
from genie_gym.collect.part import collect_part
from world_models.episodes import EpisodeDataset

ENV_ID = "Procgen/CoinRun-v0"
NUM_ENVS = 64
MAX_STEPS = 500
ROUNDS = 2  # collector and env alternate, because the machine's speed varies over time


def measure_collection(folder: Path, num_episodes: int) -> dict[str, float]:
    """Measure the speeds of the collector and the bare env, and the collector's memory growth.

    Returns:
        ``collect_vs_bare``: ratio of the collector's steps/s to the bare vector env's.
        ``rss_growth``: peak memory use in the last third, relative to the peak in the middle third.
    """
    numbers = np.array_split(np.arange(num_episodes), ROUNDS)
    watch, seconds = _MemoryWatch(), 0.0
    bares = [measure_bare(steps=1000)]
    for part in numbers:
        begun = time.perf_counter()
        with watch:
            collect_part(
                Collection(env_id=ENV_ID, max_steps=MAX_STEPS),
                part.tolist(),
                folder,
                num_envs=NUM_ENVS,
                name="benchmark",
            )
        seconds += time.perf_counter() - begun
        bares.append(measure_bare(steps=1000))
    dataset = EpisodeDataset(folder)
    steps = int(dataset.num_frames.sum()) - len(dataset)
    bare = sum(bares) / len(bares)
    return {
        "bare_steps_per_second": bare,
        "collect_steps_per_second": steps / seconds,
        "collect_vs_bare": steps / seconds / bare,
        "collected_frames": float(steps + len(dataset)),
        "rss_growth": watch.growth(),
        "rss_mib": max(watch.mebibytes),
    }


def measure_bare(steps: int) -> float:
    """Return the steps per second of the vector env alone, summed over sub-envs."""
    env = gym.make_vec(ENV_ID, num_envs=NUM_ENVS, max_episode_steps=MAX_STEPS)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(7, size=(steps + 50, NUM_ENVS))
    for action in actions[:50]:
        env.step(action)
    begun = time.perf_counter()
    for action in actions[50:]:
        env.step(action)
    seconds = time.perf_counter() - begun
    env.close()
    return steps * NUM_ENVS / seconds


class _MemoryWatch:
    """Context manager that samples the resident memory of this process."""

    def __init__(self) -> None:
        self.mebibytes: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread()

    def __enter__(self) -> None:
        self._end.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def growth(self) -> float:
        """Return the peak memory in the last third, relative to the peak in the middle third."""
        third = len(self.mebibytes) // 3
        return max(self.mebibytes[2 * third :]) / max(self.mebibytes[third : 2 * third])

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mebibytes.append(pages * 4096 / 2**20)

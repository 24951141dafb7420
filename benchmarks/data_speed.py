"""Measure how fast episodes are collected and read, and their size; compare with Minari.

Run: python -m benchmarks.data_speed [--quick] [--json FILE]

Collection runs on all cores and is compared with the bare vector env. Reading runs on one pinned
core, from the page cache. Minari is measured with its default image storage (JPEG) and with raw
images, which the lossless export uses.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.collect_speed import measure_collection
from benchmarks.report import Measured, run_benchmark
from benchmarks.timing import per_second, pin_to_one_core
from genie_gym.collect.collector import Collection, play_episodes
from world_models.episodes import (
    Episode,
    EpisodeDataset,
    EpisodeWriter,
    WindowSampler,
    encode_episode,
)
from world_models.extras import require

LENGTH = 16
BATCH = 32
NUM_OPENED = 10_000

Row = dict[str, Any]


def play(env_id: str, num_episodes: int, *, num_envs: int, max_steps: int = 500) -> list[Episode]:
    """Collect episodes in the real env with the random policy."""
    collection = Collection(env_id=env_id, max_steps=max_steps)
    episodes = play_episodes(collection, list(range(num_episodes)), num_envs=num_envs)
    return sorted(episodes, key=lambda episode: episode.info.index or 0)


def measure_reading(episodes: list[Episode], folder: Path, seconds: float) -> list[Row]:
    """Return the size of each store, and how many random 16-frame windows it reads per second."""
    num_frames = sum(len(episode) + 1 for episode in episodes)
    ours = folder / "ours"
    with EpisodeWriter(ours) as writer:
        for episode in episodes:
            writer.add(episode)
    dataset = EpisodeDataset(ours)
    sampler = WindowSampler(dataset.num_frames, length=LENGTH, batch_size=BATCH)
    rate = BATCH * per_second(lambda: dataset.batch(next(sampler), LENGTH), seconds)
    rows = [_row("ours", dataset.num_bytes / num_frames, rate)]
    for name, layout, space in (
        ("minari, jpeg", lambda e: e.frames, (64, 64, 3)),
        ("minari, lossless", lambda e: e.frames.transpose(0, 3, 1, 2), (3, 64, 64)),
    ):
        stored = _minari_dataset(name.replace(", ", "-") + "-v0", episodes, layout, space)
        size = sum(file.stat().st_size for file in Path(stored.storage.data_path).iterdir())
        windows = _endless_windows(dataset.num_frames)
        rate = per_second(partial(_minari_window, stored, windows), seconds)
        rows.append(_row(name, size / num_frames, rate))
    return rows


def measure_opening(episode: Episode, folder: Path) -> float:
    """Return the seconds until a dataset of 10,000 episodes yields its first batch."""
    encoded = encode_episode(episode)
    path = folder / "many"
    with EpisodeWriter(path) as writer:
        for index in range(NUM_OPENED):
            info = replace(encoded.entry.info, index=index, seed=index)
            writer.add_encoded(replace(encoded, entry=replace(encoded.entry, info=info)))
            if index % 30 == 29:  # 500-frame episodes fill a 16 MiB shard at this rate
                writer.flush()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dataset = EpisodeDataset(path)
        sampler = WindowSampler(dataset.num_frames, length=LENGTH, batch_size=BATCH)
        dataset.batch(next(sampler), LENGTH)
        times.append(time.perf_counter() - start)
    assert len(dataset) == NUM_OPENED
    return sorted(times)[2]


def _row(store: str, num_bytes: float, rate: float) -> Row:
    return {"store": store, "bytes per frame": num_bytes, "windows/s per core": rate}


def _endless_windows(num_frames: np.ndarray) -> Iterator[tuple[int, int]]:
    sampler = WindowSampler(num_frames, length=LENGTH, batch_size=BATCH)
    for batch in sampler:
        yield from ((int(index), int(start)) for index, start in batch)


def _minari_window(stored: Any, windows: Iterator[tuple[int, int]]) -> np.ndarray:
    """Read a window as Minari users do: load the episode, then slice it."""
    index, start = next(windows)
    return stored[index].observations[start : start + LENGTH]


def _minari_dataset(
    name: str, episodes: list[Episode], layout: Callable, shape: tuple[int, ...]
) -> Any:
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    buffers = [
        EpisodeBuffer(
            observations=np.ascontiguousarray(layout(episode)),
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=np.zeros(len(episode), bool),
            truncations=np.zeros(len(episode), bool),
            infos={},
        )
        for episode in episodes
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(
            name,
            buffer=buffers,
            observation_space=gym.spaces.Box(0, 255, shape, np.uint8),
            action_space=gym.spaces.Discrete(len(episodes[0].info.action_meanings)),
        )


def measure(given: Namespace) -> Measured:
    """Measure how fast episodes are collected and read, and how fast a dataset opens."""
    require("minari", extra="minari", what="data_speed compares with Minari")
    episodes = play("Procgen/CoinRun-v0", 64 if given.quick else 256, num_envs=64)
    with tempfile.TemporaryDirectory() as name:
        collecting = measure_collection(Path(name) / "collected", 128 if given.quick else 1280)
        pin_to_one_core()
        os.environ["MINARI_DATASETS_PATH"] = str(Path(name) / "minari")
        rows = measure_reading(episodes, Path(name), 2.0 if given.quick else 10.0)
        opening = measure_opening(episodes[0], Path(name))
    ours, jpeg, lossless = (row["windows/s per core"] for row in rows)
    figures = {
        **collecting,
        "bytes_per_frame": rows[0]["bytes per frame"],
        "windows_per_second": ours,
        "windows_vs_minari": ours / jpeg,
        "windows_vs_minari_lossless": ours / lossless,
        "open_10000_seconds": opening,
        "num_frames": sum(len(episode) + 1 for episode in episodes),
    }
    return figures, rows


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("data_speed", measure, argv, about=__doc__)


if __name__ == "__main__":
    main()

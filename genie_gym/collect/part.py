"""One process's part of a collection: plays its episodes and writes them as they end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from genie_gym.collect.collector import Collection, PlayedEpisode, play
from world_models.episodes import EncodedEpisode, EpisodeWriter, encode_episode

__all__ = ["Progress", "collect_part"]

Progress = Callable[[int, int], None]  # told (steps made, episodes finished) since it was last told

_REPORT_SECONDS = 0.25
_ENCODERS = 2  # threads; compression lets the emulators go on
_QUEUE = 8  # episodes that may wait for compression, so that memory stays bounded


def collect_part(
    collection: Collection,
    indices: list[int],
    out: Path,
    *,
    num_envs: int,
    name: str,
    flush_seconds: float = 10.0,
    on_progress: Progress = lambda steps, episodes: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Plays and stores these episodes; when told to stop, keeps those that are finished.

    Args:
        collection: What to play.
        indices: Numbers of the episodes.
        out: The dataset directory; others may write into it at the same time.
        num_envs: Rows of this process's vector env.
        name: Of the writer: its shards and manifest carry it.
        flush_seconds: Finished episodes are on disk after so many seconds at the latest.
        on_progress: Told a few times a second.
        should_stop: Asked after each step.
    """
    meter = _Meter(on_progress)

    def on_steps(steps: int) -> None:
        meter.count(steps, 0)
        if should_stop():
            raise _Stopped

    waiting: deque[Future[EncodedEpisode]] = deque()
    with EpisodeWriter(out, name=name) as writer, ThreadPoolExecutor(_ENCODERS) as encoders:
        flushed = time.monotonic()
        try:
            for played in play(collection, indices, num_envs=num_envs, on_steps=on_steps):
                waiting.append(encoders.submit(_encode, played))
                meter.count(0, 1)
                while waiting and (waiting[0].done() or len(waiting) > _QUEUE):
                    writer.add_encoded(waiting.popleft().result())
                if time.monotonic() - flushed > flush_seconds:
                    writer.flush()
                    flushed = time.monotonic()
        except _Stopped:
            pass
        while waiting:
            writer.add_encoded(waiting.popleft().result())
        writer.flush()
    meter.tell()


def _encode(played: PlayedEpisode) -> EncodedEpisode:
    return encode_episode(played.episode())


class _Stopped(Exception):
    """Leaves the play loop between two steps."""


class _Meter:
    def __init__(self, on_progress: Progress):
        self._on_progress = on_progress
        self._steps = self._episodes = 0
        self._told = time.monotonic()

    def count(self, steps: int, episodes: int) -> None:
        self._steps += steps
        self._episodes += episodes
        if time.monotonic() - self._told > _REPORT_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._on_progress(self._steps, self._episodes)
        self._steps = self._episodes = 0
        self._told = time.monotonic()

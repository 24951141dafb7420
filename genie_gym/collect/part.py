"""One process's part of a collection: plays its episodes and writes them as they end."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.collect.collector import Collection, play
from world_models.episodes import Chunk, EpisodeEncoder, EpisodeWriter, Transitions

__all__ = ["Progress", "collect_part"]

Progress = Callable[[int, int], None]  # told (steps made, episodes finished) since it was last told

_REPORT_SECONDS = 0.25
_QUEUE = 256  # chunks that may wait for compression, so that memory stays bounded


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

    with EpisodeWriter(out, name=name) as writer, _Storing(writer, flush_seconds) as storing:
        played = play(
            collection,
            indices,
            lambda: _Recorder(storing),
            num_envs=num_envs,
            on_steps=on_steps,
        )
        with contextlib.suppress(_Stopped):
            for _ in played:
                meter.count(0, 1)
        storing.finish()
    meter.tell()


class _Storing:
    """Compresses and writes in one thread, in the order in which frames come, as games go on."""

    def __init__(self, writer: EpisodeWriter, flush_seconds: float):
        self._writer = writer
        self._flush_seconds = flush_seconds
        self._flushed = time.monotonic()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._chunks: list[Chunk] = []  # that can be used again: fresh memory is slow

    def __enter__(self) -> _Storing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def chunk(self, frame_shape: tuple[int, ...]) -> Chunk:
        """An empty one."""
        return self._chunks.pop() if self._chunks else Chunk(frame_shape)

    def compress(self, encoder: EpisodeEncoder, chunk: Chunk) -> None:
        """Add a chunk to an episode soon."""
        self._submit(self._compress, encoder, chunk)

    def store(self, encoder: EpisodeEncoder, transitions: Transitions) -> None:
        """Write an episode that has ended soon."""
        self._submit(self._store, encoder, transitions)

    def finish(self) -> None:
        """Write all that waits."""
        self._submit(self._writer.flush)
        while self._waiting:
            self._waiting.popleft().result()

    def _submit(self, task: Callable[..., None], *arguments: Any) -> None:
        """Have the thread do something; waits where too much waits already, and tells errors."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > _QUEUE):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(task, *arguments))

    def _compress(self, encoder: EpisodeEncoder, chunk: Chunk) -> None:
        encoder.add(chunk)
        chunk.count = 0
        self._chunks.append(chunk)

    def _store(self, encoder: EpisodeEncoder, transitions: Transitions) -> None:
        self._writer.add_encoded(encoder.finish(transitions))
        if time.monotonic() - self._flushed > self._flush_seconds:
            self._writer.flush()
            self._flushed = time.monotonic()


class _Recorder:
    """Compresses an episode while it is played, and stores it when it has ended."""

    def __init__(self, storing: _Storing):
        self._storing = storing
        self._encoder = EpisodeEncoder()
        self._chunk: Chunk | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._chunk is None:
            self._chunk = self._storing.chunk(frame.shape)
        self._chunk.add(frame)
        if self._chunk.full:
            self._hand_over()

    def finish(self, transitions: Transitions) -> None:
        self._hand_over()
        self._storing.store(self._encoder, transitions)

    def _hand_over(self) -> None:
        if self._chunk is not None:
            self._storing.compress(self._encoder, self._chunk)
            self._chunk = None


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

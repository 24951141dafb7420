"""Collects one worker's part of a collection: plays episodes and writes each when it ends."""

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

Progress = Callable[[int, int], None]  # called with the steps and episodes since the last call

_REPORT_SECONDS = 0.25
_QUEUE = 256  # maximum number of chunks that wait for compression; bounds the memory


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
    """Plays and stores episodes; if the collection is stopped, finished episodes are kept.

    Args:
        collection: Settings of the collection.
        indices: Numbers of the episodes to play.
        out: The dataset directory; other writers may use it at the same time.
        num_envs: Number of sub-envs in this worker's vector env.
        name: Name of the writer, used in the names of its shards and manifest.
        flush_seconds: Maximum number of seconds until a finished episode is on disk.
        on_progress: Called a few times per second, with the progress since the last call.
        should_stop: Called after each step; True stops the collection.
    """
    meter = _ProgressMeter(on_progress)

    def on_steps(steps: int) -> None:
        meter.count(steps, 0)
        if should_stop():
            raise _Stopped

    with (
        EpisodeWriter(out, name=name) as writer,
        _BackgroundWriter(writer, flush_seconds) as background,
    ):
        played = play(
            collection,
            indices,
            lambda: _Recorder(background),
            num_envs=num_envs,
            on_steps=on_steps,
        )
        with contextlib.suppress(_Stopped):
            for _ in played:
                meter.count(0, 1)
        background.finish()
    meter.report()


class _BackgroundWriter:
    """Compresses and writes episodes in a thread while the games continue."""

    def __init__(self, writer: EpisodeWriter, flush_seconds: float):
        self._writer = writer
        self._flush_seconds = flush_seconds
        self._flushed = time.monotonic()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._chunks: list[Chunk] = []  # for reuse, since allocating memory is slow

    def __enter__(self) -> _BackgroundWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        # After a failure of the game, episodes that had ended are still stored.
        self._thread.shutdown(cancel_futures=exception[0] is KeyboardInterrupt)

    def chunk(self, frame_shape: tuple[int, ...]) -> Chunk:
        """Returns an empty chunk."""
        return self._chunks.pop() if self._chunks else Chunk(frame_shape)

    def compress(self, encoder: EpisodeEncoder, chunk: Chunk) -> None:
        """Queues a chunk for compression into an episode."""
        self._submit(self._compress, encoder, chunk)

    def store(self, encoder: EpisodeEncoder, transitions: Transitions) -> None:
        """Queues a finished episode for writing."""
        self._submit(self._store, encoder, transitions)

    def finish(self) -> None:
        """Writes everything in the queue."""
        self._submit(self._writer.flush)
        while self._waiting:
            self._waiting.popleft().result()

    def _submit(self, task: Callable[..., None], *arguments: Any) -> None:
        """Queues a task; blocks while the queue is full, and raises errors of earlier tasks."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > _QUEUE):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(task, *arguments))

    def _compress(self, encoder: EpisodeEncoder, chunk: Chunk) -> None:
        encoder.add(chunk)
        chunk.count = 0
        self._chunks.append(chunk)
        self._flush_if_due()

    def _store(self, encoder: EpisodeEncoder, transitions: Transitions) -> None:
        self._writer.add_encoded(encoder.finish(transitions))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._flushed > self._flush_seconds:
            self._writer.flush()
            self._flushed = time.monotonic()


class _Recorder:
    """Compresses an episode while it is played, and stores it when it has ended."""

    def __init__(self, background: _BackgroundWriter):
        self._background = background
        self._encoder = EpisodeEncoder()
        self._chunk: Chunk | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._chunk is None:
            self._chunk = self._background.chunk(frame.shape)
        self._chunk.add(frame)
        if self._chunk.full:
            self._flush_chunk()

    def finish(self, transitions: Transitions) -> None:
        self._flush_chunk()
        self._background.store(self._encoder, transitions)

    def _flush_chunk(self) -> None:
        if self._chunk is not None:
            self._background.compress(self._encoder, self._chunk)
            self._chunk = None


class _Stopped(Exception):
    """Raised to leave the play loop between two steps."""


class _ProgressMeter:
    def __init__(self, on_progress: Progress):
        self._on_progress = on_progress
        self._steps = self._episodes = 0
        self._reported = time.monotonic()

    def count(self, steps: int, episodes: int) -> None:
        self._steps += steps
        self._episodes += episodes
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        self._on_progress(self._steps, self._episodes)
        self._steps = self._episodes = 0
        self._reported = time.monotonic()

"""Runs the parts of a collection as Ray tasks, on one machine or a cluster with a shared disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genie_gym.collect.collector import Collection
from genie_gym.collect.part import Progress, collect_part
from world_models.extras import require

__all__ = ["collect_in_ray"]


def collect_in_ray(
    collection: Collection,
    parts: list[list[int]],
    out: Path,
    *,
    num_envs: int,
    names: list[str],
    flush_seconds: float,
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> None:
    """Runs each part as a Ray task; starts a local Ray instance if none is running."""
    ray = require("ray", extra="scale", what="--ray needs Ray")
    owns_ray = not ray.is_initialized()
    if owns_ray:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        mailbox: Any = ray.remote(_Mailbox).remote()
        task: Any = ray.remote(_collect).options(num_cpus=1)
        running = [
            task.remote(
                mailbox, collection, part, str(out.absolute()), num_envs, name, flush_seconds
            )
            for part, name in zip(parts, names, strict=True)
        ]
        while running:
            finished, running = ray.wait(running, timeout=0.5)
            on_progress(*ray.get(mailbox.take.remote(should_stop())))
            ray.get(finished)
        on_progress(*ray.get(mailbox.take.remote(False)))
    finally:
        if owns_ray:
            ray.shutdown()


class _Mailbox:
    """A Ray actor that adds up the progress of all tasks and tells the tasks when to stop."""

    def __init__(self) -> None:
        self._steps = self._episodes = 0
        self._stopping = False

    def report(self, steps: int, episodes: int) -> bool:
        self._steps, self._episodes = self._steps + steps, self._episodes + episodes
        return self._stopping

    def take(self, stopping: bool) -> tuple[int, int]:
        counts, self._steps, self._episodes = (self._steps, self._episodes), 0, 0
        self._stopping = stopping
        return counts


def _collect(
    mailbox: Any,
    collection: Collection,
    indices: list[int],
    out: str,
    num_envs: int,
    name: str,
    flush_seconds: float,
) -> None:
    import ray

    stopping = False

    def report(steps: int, episodes: int) -> None:
        nonlocal stopping
        stopping = ray.get(mailbox.report.remote(steps, episodes))

    collect_part(
        collection,
        indices,
        Path(out),
        num_envs=num_envs,
        name=name,
        flush_seconds=flush_seconds,
        on_progress=report,
        should_stop=lambda: stopping,
    )

"""Runs the parts of a collection in worker processes; this module is also the workers' program.

A worker gets its task as one line of JSON on its standard input and reports progress as lines on
its standard output. It stops cleanly when its standard input is closed, so it also stops when the
parent is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from genie_gym.collect.collector import Collection
from genie_gym.collect.part import Progress, collect_part
from genie_gym.errors import WorkerDiedError

__all__ = ["collect_in_processes"]


def collect_in_processes(
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
    """Runs each part in its own process and waits for all of them.

    Raises:
        WorkerDiedError: If a worker fails; the other workers are stopped cleanly first.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                _Worker(
                    {
                        "collection": asdict(collection),
                        "indices": indices,
                        "out": str(out),
                        "num_envs": num_envs,
                        "name": name,
                        "flush_seconds": flush_seconds,
                    },
                    on_progress,
                )
            )
            for indices, name in zip(parts, names, strict=True)
        ]
        while any(worker.running() for worker in workers):
            failed = any(worker.failed() for worker in workers)
            if should_stop() or failed:
                for worker in workers:
                    worker.stop()
            threading.Event().wait(0.1)
        for worker in workers:
            worker.check()


class _Worker:
    """Starts a worker process and communicates with it, from the parent process."""

    def __init__(self, task: dict[str, Any], on_progress: Progress):
        self._name = task["name"]
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genie_gym.collect.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # the parent handles Ctrl-C and closes the worker's input
        )
        with contextlib.suppress(BrokenPipeError):  # the worker has ended already; `check` says why
            self._input.write(json.dumps(task).encode() + b"\n")
            self._input.flush()
        self._reader = threading.Thread(target=self._read, args=(on_progress,), daemon=True)
        self._reader.start()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._process.wait()
        self._reader.join()
        self._errors.close()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def running(self) -> bool:
        return self._process.poll() is None

    def failed(self) -> bool:
        return bool(self._process.poll())

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def check(self) -> None:
        if not self.failed():
            return
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        tail = self._errors.read().decode(errors="replace").strip()
        raise WorkerDiedError(
            f"collection worker {self._name} ended with status {self._process.returncode}. "
            "Finished episodes are kept: run the same command to resume. Its last output:\n"
            f"{tail}"
        )

    def _read(self, on_progress: Progress) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            steps, episodes = json.loads(line)
            on_progress(steps, episodes)


def _main() -> None:
    task = json.loads(sys.stdin.buffer.readline())
    stop = threading.Event()
    # Keeps the emulators' output separate from the progress lines.
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def watch_input() -> None:
        while os.read(0, 1):
            pass
        stop.set()

    threading.Thread(target=watch_input, daemon=True).start()
    try:
        collect_part(
            Collection(**task["collection"]),
            task["indices"],
            Path(task["out"]),
            num_envs=task["num_envs"],
            name=task["name"],
            flush_seconds=task["flush_seconds"],
            on_progress=lambda steps, episodes: print(json.dumps([steps, episodes]), file=report),
            should_stop=stop.is_set,
        )
    except (OSError, ValueError, RuntimeError) as failure:
        sys.exit(f"{type(failure).__name__}: {failure}")


if __name__ == "__main__":
    _main()

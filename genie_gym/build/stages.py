"""Runs stages that depend on each other, and records which are done."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["Manifest", "Stage", "print_stages", "run_stages"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work that can be interrupted anywhere and run again.

    Attributes:
        name: Name of the stage.
        needs: Names of the stages that must be done first.
        run: Does the remaining work; returns True when finished, False when interrupted.
        share: Time for this stage, relative to the `share` of the other stages.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[], bool]
    share: float = 0.0


class Manifest:
    """A log of the stages that were started or finished: an append-only file of JSON lines.

    An incomplete line, left by a killed process, is ignored.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """Returns all events, oldest first."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def done(self) -> set[str]:
        """Returns the names of the finished stages."""
        return {entry["stage"] for entry in self.entries() if entry["event"] == "done"}

    def note(self, stage: str, event: str, **more: Any) -> None:
        """Appends an event; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        line = json.dumps({"stage": stage, "event": event, **more}) + "\n"
        with self._path.open("a") as file:
            file.write("\n" + line if torn else line)
            file.flush()
            os.fsync(file.fileno())


def print_stages(stages: Iterable[Stage], manifest: Manifest) -> None:
    """Prints the name of each stage, and whether it is done."""
    done = manifest.done()
    for stage in stages:
        print("done   " if stage.name in done else "to do  ", stage.name)


def run_stages(
    stages: Sequence[Stage],
    manifest: Manifest,
    *,
    only: str | None = None,
    log: Callable[[str], None] = lambda stage: print(f"== {stage}"),
) -> bool:
    """Runs the stages that are not done yet, in order.

    Args:
        stages: The stages, each after the ones it needs.
        manifest: The log of the stages.
        only: Run only this stage, even if it is done; None runs all stages that are not done.
        log: Called with the name of each stage that starts.

    Returns:
        True when everything is finished, False when a stage was interrupted.

    Raises:
        ValueError: If `only` is not a stage, or the stages it needs are not done.
    """
    chosen = list(stages) if only is None else [_named(stages, only)]
    for stage in chosen:
        done = manifest.done()
        if stage.name in done and only is None:
            continue
        missing = [name for name in stage.needs if name not in done]
        if missing:
            raise ValueError(
                f"{stage.name} needs {', '.join(missing)}, which has not run yet: run it first"
            )
        log(stage.name)
        manifest.note(stage.name, "started")
        started, used = time.monotonic(), sum(os.times()[:4])
        event = "failed"
        try:
            event = "done" if stage.run() else "stopped"
        except KeyboardInterrupt:
            event = "stopped"
        finally:  # the time counts, whatever happened
            seconds = round(time.monotonic() - started, 1)
            cpu = round(sum(os.times()[:4]) - used, 1)
            manifest.note(stage.name, event, seconds=seconds, cpu=cpu)
        if event == "stopped":
            return False
    return True


def _named(stages: Sequence[Stage], name: str) -> Stage:
    by_name = {stage.name: stage for stage in stages}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown stage {name!r}: expected one of {', '.join(by_name)}.{hint}")
    return by_name[name]

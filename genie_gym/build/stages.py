"""Stages that build on each other, and the record of which are done."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["Manifest", "Stage", "run_stages"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work that can be stopped anywhere and run again.

    Attributes:
        name: What it makes.
        needs: The stages before it.
        run: Does what is left to do; returns whether it is finished, False if it was asked to
            stop.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[], bool]


class Manifest:
    """Which stages were begun and which are done: lines of JSON, only ever added to.

    A line torn by a kill counts as never written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """All events, oldest first."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def done(self) -> set[str]:
        """Names of the finished stages."""
        return {entry["stage"] for entry in self.entries() if entry["event"] == "done"}

    def note(self, stage: str, event: str, **more: Any) -> None:
        """Adds an event; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        line = json.dumps({"stage": stage, "event": event, **more}) + "\n"
        with self._path.open("a") as file:
            file.write("\n" + line if torn else line)
            file.flush()
            os.fsync(file.fileno())


def run_stages(
    stages: Sequence[Stage],
    manifest: Manifest,
    *,
    only: str | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Runs what is not done yet, in order.

    Args:
        stages: Each after those it needs.
        manifest: What is done.
        only: Run this stage alone, again if it is done.
        say: Told what goes on.

    Returns:
        Whether all of it is finished; False if a stage was asked to stop.

    Raises:
        ValueError: If `only` is no stage, or what it needs is not done.
    """
    chosen = list(stages) if only is None else [_named(stages, only)]
    for stage in chosen:
        done = manifest.done()
        if stage.name in done and only is None:
            continue
        missing = [name for name in stage.needs if name not in done]
        if missing:
            raise ValueError(f"{stage.name} needs {', '.join(missing)}, not done yet: run it first")
        say(f"== {stage.name}")
        manifest.note(stage.name, "begun")
        begun = time.monotonic()
        if not stage.run():
            return False
        manifest.note(stage.name, "done", seconds=round(time.monotonic() - begun, 1))
    return True


def _named(stages: Sequence[Stage], name: str) -> Stage:
    by_name = {stage.name: stage for stage in stages}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no stage {name!r}; there are {', '.join(by_name)}.{hint}")
    return by_name[name]

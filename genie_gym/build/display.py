"""The progress display of a build: the stage, the time left, and a preview image on disk."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from genie_gym.build.stages import Manifest, Stage
from world_models.progress import shown_by

__all__ = ["Display"]

_LINE_SECONDS = 60  # seconds between lines if the output is not a terminal
_PREVIEW_SECONDS = 5


class Display:
    """Shows the progress of a build on one line of a terminal.

    The output of the stages themselves goes to ``build.log``.

    Args:
        stages: All stages.
        manifest: The log of the stages.
        minutes: Time for the build.
        out: Folder of the build; the newest image is copied to ``preview.png``.
        stream: Where the progress is shown; by default stderr.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        manifest: Manifest,
        minutes: float,
        out: Path,
        stream: TextIO | None = None,
    ):
        self._names = [stage.name for stage in stages]
        self._manifest, self._seconds, self._out = manifest, 60 * minutes, out
        self._stream = stream or sys.stderr
        self._stage, self._started = "", time.monotonic()
        self._shown = self._looked = -_LINE_SECONDS * 2.0
        self._width = 0

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Shows the progress of the stages that run in the ``with`` block."""
        self._out.mkdir(parents=True, exist_ok=True)
        with (
            (self._out / "build.log").open("a", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
            shown_by(self.update),
        ):
            try:
                yield
            finally:
                if self._width:
                    self._stream.write("\n")
                    self._stream.flush()

    def begin(self, stage: str) -> None:
        """Shows that the stage with this name begins."""
        self._stage, self._started = stage, time.monotonic()
        self._shown = -_LINE_SECONDS * 2.0
        print(f"== {stage}")  # in the log
        self.update(0.0, None, "")

    def update(self, share: float, left: float | None, note: str) -> None:
        """Shows the fraction of the stage that is done; see `world_models.progress.Listener`."""
        now = time.monotonic()
        self._preview(now)
        terminal = self._stream.isatty()
        if now - self._shown < (0.2 if terminal else _LINE_SECONDS):
            return
        self._shown = now
        took = sum(entry.get("seconds", 0) for entry in self._manifest.entries())
        whole = max(0.0, self._seconds - took - (now - self._started))
        number = self._names.index(self._stage) + 1 if self._stage in self._names else 0
        parts = [f"[{number}/{len(self._names)}] {self._stage} {share:.0%}"]
        parts += [f"stage {_minutes(left)} left"] if left is not None else []
        parts += [f"build about {_minutes(whole)} left", *([note] if note else [])]
        line = ", ".join(parts)
        if terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _preview(self, now: float) -> None:
        """Copies the newest image that a stage has drawn to ``preview.png``."""
        if now - self._looked < _PREVIEW_SECONDS:
            return
        self._looked = now
        drawn = [*self._out.glob("runs/*/samples/*.png"), *self._out.glob("pictures/strip.png")]
        with suppress(OSError, ValueError):  # a run's folder may be deleted meanwhile
            newest = max(drawn, key=lambda path: path.stat().st_mtime)
            preview = self._out / "preview.png"
            if not preview.exists() or preview.stat().st_mtime < newest.stat().st_mtime:
                shutil.copyfile(newest, preview)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

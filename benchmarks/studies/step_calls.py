"""Count the project's function calls in one dreamed step, by file.

The step is the ninth step in a dream of the shipped CoinRun world model, with the action RIGHT.
Calls into other packages are not counted; a generator counts each time it resumes. The *spine*
lists the files to read to follow a step: the files on the call stack, from the dreamed env inward,
while the transformer of the dynamics runs.

Run: python -m benchmarks.studies.step_calls [--json FILE]
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym

import genie_gym  # registers the env ids
from benchmarks.report import Measured, run_benchmark

ENV_ID = "GenieRedux/CoinRun-v0"
OUTERMOST, INNERMOST = "genie_gym/envs/genie.py", "SpaceTimeTransformer.step"
PACKAGES = ("genie_gym", "world_models")
WARM_UP = 8

ROOT = Path(genie_gym.__file__).resolve().parents[1]


@dataclass
class Trace:
    """The function calls of a step.

    Attributes:
        calls: Number of calls to the project's functions, by file.
        spine: Files on the call stack at `INNERMOST`, outermost first.
    """

    calls: Counter[str] = field(default_factory=Counter)
    spine: list[str] = field(default_factory=list)


def trace(function: Callable[[], object]) -> Trace:
    """Count the project's calls while `function` runs."""
    found = Trace()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        file = _file(frame)
        if event != "call" or file is None:
            return
        found.calls[file] += 1
        if frame.f_code.co_qualname == INNERMOST and not found.spine:
            found.spine = _stack(frame)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


def trace_step() -> Trace:
    """Trace one dreamed step."""
    env: Any = gym.make(ENV_ID)
    right = env.unwrapped.action_meanings.index("RIGHT")
    env.reset(seed=0)
    for _ in range(WARM_UP):
        env.step(right)
    found = trace(lambda: env.step(right))
    env.close()
    return found


def rows(found: Trace) -> list[dict[str, Any]]:
    """Return a table row per file, with most calls first, and a row with the total."""
    total = found.calls.total()
    table: list[dict[str, Any]] = [
        {
            "file": name,
            "calls": number,
            "share": f"{100 * number / total:.1f} %",
            "spine": found.spine.index(name) + 1 if name in found.spine else "",
        }
        for name, number in found.calls.most_common()
    ]
    return [*table, {"file": f"all {len(found.calls)} files", "calls": total, "share": "100.0 %"}]


def measure(given: Namespace) -> Measured:
    found = trace_step()
    figures = {
        "calls": found.calls.total(),
        "files": len(found.calls),
        "spine_files": len(found.spine),
    }
    return figures, rows(found)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("studies.step_calls", measure, argv, about=__doc__, quick="")


def _file(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in PACKAGES:
        return None
    return path.relative_to(ROOT).as_posix()


def _stack(frame: FrameType | None) -> list[str]:
    files: list[str] = []
    while frame is not None:
        file = _file(frame)
        if file is not None and file not in files:
            files.insert(0, file)
        if file == OUTERMOST:
            return files
        frame = frame.f_back
    return files


if __name__ == "__main__":
    main()

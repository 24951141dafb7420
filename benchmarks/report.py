"""What every benchmark prints: a table for people, and one JSON line for machines."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

__all__ = ["hardware", "report"]

PACKAGES = ("genie-gym", "torch", "gymnasium", "numpy", "stable-baselines3", "stable-retro")


def report(
    name: str,
    figures: Mapping[str, float],
    rows: Sequence[Sequence[object]],
    json_path: str | os.PathLike[str] | None = None,
) -> None:
    """Print the table, then one JSON object as the last line; write that to a file too.

    Args:
        name: Of the benchmark.
        figures: Its numbers, by the keys that others rely on.
        rows: The table, header first.
        json_path: Where to write the JSON object as well.
    """
    result = {
        "benchmark": name,
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "hardware": hardware(),
        "versions": _versions(),
        "figures": {key: float(f"{value:.4g}") for key, value in figures.items()},
    }
    print(f"\n{name} on {result['hardware']}\n")
    _print_table(rows)
    line = json.dumps(result)
    if json_path is not None:
        Path(json_path).write_text(line + "\n")
    print(f"\n{line}", flush=True)


def hardware() -> str:
    """Processor, cores that this process may use, and accelerator if torch is loaded and has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _print_table(rows: Sequence[Sequence[object]]) -> None:
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for number, row in enumerate(cells):
        columns = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(columns))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _text(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)

"""Run a benchmark and report its result as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from genie_gym.doctor import processor

__all__ = [
    "Measured",
    "cell",
    "command",
    "hardware",
    "named",
    "prog",
    "report",
    "run_benchmark",
    "say",
    "table",
]

Row = Mapping[str, Any]
Measured = tuple[Mapping[str, float], Sequence[Row]]
"""The results (numbers by name, comparable between runs), and the rows of the printed table."""

ISA_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that keep PyTorch from using some of the CPU's instruction sets."""
_PACKAGES = ("genie-gym", "numpy", "torch", "gymnasium", "h5py", "numcodecs", "stable-retro")


def run_benchmark(
    name: str,
    measure: Callable[[Namespace], Measured],
    argv: Sequence[str] | None,
    *,
    about: str | None,
    options: Callable[[ArgumentParser], object] = lambda parser: None,
    quick: str = "fewer repetitions",
) -> int:
    """Run a benchmark's command line: parse the options, measure, and report the results.

    Args:
        name: Name of the benchmark's module in `benchmarks`.
        measure: Function that takes the parsed options and returns the results and the table rows.
        argv: Arguments after the benchmark's name; None uses the arguments in `sys.argv`.
        about: Description that ``--help`` shows.
        options: Function that adds options to the parser, besides ``--quick`` and ``--json``.
        quick: Help text of ``--quick``; empty if the benchmark has no such option.

    Returns:
        The exit status.
    """
    parser = ArgumentParser(prog=prog(name), description=about)
    options(parser)
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=Path,
        help="write the results to this file",
    )
    given = parser.parse_args(argv)
    figures, rows = measure(given)
    report(name, figures, rows, given.json)
    return 0


def report(
    name: str, figures: Mapping[str, float], rows: Sequence[Row], json_path: Path | None
) -> None:
    """Print the table, and write the results as JSON to `json_path` if it is given.

    Args:
        name: Name of the benchmark's module in `benchmarks`.
        figures: Measured numbers by name, comparable between runs.
        rows: Rows of the table; its columns are the rows' keys in order of appearance.
        json_path: Output file for the results; None writes no file.
    """
    result = {
        "benchmark": name.rpartition(".")[2],
        "command": command(name),
        "hardware": hardware(),
        "commit": _commit(),
        "versions": _versions(),
        "figures": dict(figures),
    }
    print(table(rows))
    print(f"\n{result['hardware']}")
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result) + "\n")
        print(f"results: {json_path}")
    sys.stdout.flush()


def prog(name: str) -> str:
    """Return the running command without its options, such as `python -m benchmarks.NAME`."""
    called = sys.argv[0]
    return called if called.startswith("genie-gym ") else f"python -m benchmarks.{name}"


def command(name: str) -> str:
    """Return the running command with its options."""
    return f"{prog(name)} {shlex.join(sys.argv[1:])}".strip()


def say(line: str) -> None:
    """Print a progress message to stderr."""
    print(line, file=sys.stderr, flush=True)


def named(lines: Sequence[Sequence[object]]) -> list[dict[str, Any]]:
    """Make table rows from lists; the first list names the columns."""
    header, *rest = lines
    return [dict(zip(map(str, header), line, strict=True)) for line in rest]


def table(rows: Sequence[Row]) -> str:
    """Format rows as text with aligned columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def hardware() -> str:
    """Describe the machine in one line, and instruction sets that the environment disables."""
    cores, memory = os.cpu_count(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    name, instructions = processor()
    limits = [f"{name}={os.environ[name]}" for name in ISA_LIMITS if name in os.environ]
    instructions = "; ".join(filter(None, (instructions, *limits)))
    name = f"{name} ({instructions})" if instructions else name
    line = f"{name}, {cores} cores, {memory / 2**30:.0f} GiB"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        line += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return line


def _commit() -> str | None:
    """Describe this checkout's commit; return None for an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # another repository may contain the installed package
        return None
    asked = ("git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*")
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def cell(value: Any) -> str:
    """Format a value for the table."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)

"""Compare world models fine-tuned on AutoExplore's data with ones fine-tuned on random play.

The two datasets have the same size. The benchmark reads the evaluations of finished loops
(`genie-gym loop`), one loop per seed.

Run: python -m benchmarks.studies.loop_gain LOOP ... [--json FILE]
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from agents.loop.graph import ARMS
from benchmarks.report import Measured, run_benchmark

MEASURES = ("psnr", "changed_psnr", "delta_psnr", "delta_changed_psnr")
BOUNDS = ("psnr_copy", "psnr_ceiling", "changed_psnr_copy", "changed_psnr_ceiling")


def evaluated(loop: Path) -> dict[str, dict[str, float]]:
    """Return the scores of a loop's first world model, and of each variant's last world model."""
    folder = loop / "scores"
    rounds = max(1, len(list(folder.glob(f"{ARMS[0]}-*-evaluation.json"))))
    names = {"first": "evaluation", **{arm: f"{arm}-{rounds}-evaluation" for arm in ARMS}}
    missing = [name for name in names.values() if not (folder / f"{name}.json").exists()]
    if missing:
        raise ValueError(
            f"the loop {loop} has not evaluated {', '.join(missing)}: run the loop to its end"
        )
    return {
        world: json.loads((folder / f"{name}.json").read_text()) for world, name in names.items()
    }


def summary(
    loops: list[dict[str, dict[str, float]]],
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the results (means and standard deviations over loops) and the table rows.

    A gain is computed per loop: the score of the variant "explored" minus the score of "control".
    """
    explored, control = ARMS
    figures: dict[str, float] = {}
    for measure in MEASURES:
        values = {world: np.array([loop[world][measure] for loop in loops]) for world in loops[0]}
        values["gain"] = values[explored] - values[control]
        for world, found in values.items():
            figures[f"{world}_{measure}"] = float(found.mean())
            if len(found) > 1:
                figures[f"{world}_{measure}_sd"] = float(found.std(ddof=1))
    for bound in BOUNDS:
        figures[bound] = float(np.mean([loop[control][bound] for loop in loops]))
    for arm in ARMS:
        learned = [loop[arm]["frames_learned"] for loop in loops]
        figures[f"{arm}_frames_learned"] = float(np.mean(learned))
    rows = [
        {"world": world, **{name: figures[f"{world}_{name}"] for name in MEASURES}}
        for world in ("first", *ARMS, "gain")
    ]
    return figures, rows


def options(parser: ArgumentParser) -> None:
    parser.add_argument("loops", metavar="LOOP", nargs="+", type=Path, help="finished loops")


def measure(given: Namespace) -> Measured:
    return summary([evaluated(loop) for loop in given.loops])


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark(
        "studies.loop_gain", measure, argv, about=__doc__, options=options, quick=""
    )


if __name__ == "__main__":
    main()

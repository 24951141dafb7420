"""`genie-gym bench NAME ...`: the benchmarks and the studies by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches

__all__ = ["BENCHMARKS", "STUDIES", "main", "module_of"]

BENCHMARKS = {
    "fidelity": "how true a world is: beside the real env it was learned from",
    "env_speed": "how fast envs are: real ones beside the bare simulators, dreams beside both",
    "generation_speed": "streaming generation beside recomputing the window",
    "training_speed": "training steps per second",
    "data_speed": "collecting, storing and reading episodes, beside Minari",
}
STUDIES = {
    "ablation": "what each part of the dynamics is worth",
    "coinrun_study": "the published CoinRun study, made again from the play on",
    "many_games": "what a world of many games knows of another one",
    "exploration": "what AutoExplore finds beside random play",
    "explore_cost": "what the uncertainty reward costs per step",
    "two_armed": "where AutoExplore goes when only uncertainty differs, and with pure noise",
    "loop_gain": "what AutoExplore's data is worth, from loops that have ended",
    "dream_soak": "100,000 dreamed frames: memory and drift",
    "step_calls": "how much code one dreamed step runs through, by file",
    "container_choice": "file formats for episodes",
    "catalogue": "the catalogue's labels beside the public annotation and the probes",
    "model_page": "draws the pictures of docs/model.md and writes its tables",
}
"""What was asked once; also what draws pictures of the docs."""


def module_of(name: str) -> str:
    """Where a benchmark or a study lies."""
    return f"benchmarks.studies.{name}" if name in STUDIES else f"benchmarks.{name}"


def main(argv: list[str]) -> int:
    """Runs a benchmark or a study; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = argv[0].replace("-", "_"), argv[1:]
    known = [*BENCHMARKS, *STUDIES]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"no benchmark {argv[0]!r}.{hint}\n\n{_help()}")
    sys.argv = [f"genie-gym bench {name}", *rest]
    return importlib.import_module(module_of(name)).main(rest)


def _help() -> str:
    return "\n".join(
        [
            "usage: genie-gym bench NAME ...",
            "",
            "What a world or a machine of your own can be measured by:",
            *_lines(BENCHMARKS),
            "",
            "Studies, asked once, to be made again:",
            *_lines(STUDIES),
            "",
            "genie-gym bench NAME --help says what one takes.",
        ]
    )


def _lines(table: Mapping[str, str]) -> list[str]:
    width = max(map(len, (*BENCHMARKS, *STUDIES)))
    return [f"  {name:<{width}}  {text}" for name, text in table.items()]

"""`genie-gym bench NAME ...`: the benchmarks by name."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "fidelity": "a world against the real env it was learned from",
    "coinrun_study": "the published CoinRun study, made again from the play on",
    "env_speed": "the envs beside the bare simulators",
    "data_speed": "the episode store beside Minari",
    "generation_speed": "streaming generation beside recomputing the window",
    "training_speed": "training steps per second",
    "ablation": "what each part of the dynamics is worth",
    "exploration": "what AutoExplore finds beside random play",
    "explore_cost": "what the uncertainty reward costs per step",
    "two_armed": "where AutoExplore goes when only uncertainty differs, and with pure noise",
    "dream_soak": "100,000 dreamed frames: memory and drift",
    "container_choice": "file formats for episodes",
}


def main(argv: list[str]) -> int:
    """Runs a benchmark; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = argv[0].replace("-", "_"), argv[1:]
    if name not in BENCHMARKS:
        near = get_close_matches(name, BENCHMARKS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"no benchmark {argv[0]!r}.{hint}\n\n{_help()}")
    sys.argv = [f"genie-gym bench {name}", *rest]
    return importlib.import_module(f"benchmarks.{name}").main() or 0


def _help() -> str:
    width = max(map(len, BENCHMARKS))
    lines = [f"  {name:<{width}}  {text}" for name, text in BENCHMARKS.items()]
    return "\n".join(["usage: genie-gym bench NAME ...", "", *lines])

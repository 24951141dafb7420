"""Implements `genie-gym bench NAME ...`, which runs a benchmark or a study by its name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches

__all__ = ["BENCHMARKS", "STUDIES", "main", "module_of"]

BENCHMARKS = {
    "fidelity": "accuracy of a world model against the real env it was trained on",
    "env_speed": "steps per second of real envs, bare simulators and dreamed envs",
    "play_speed": "a dream in the browser: frames per second, and latency from key press to frame",
    "web_speed": "an exported world in the browser: frames per second",
    "transfer": "agents trained in a dream against agents trained in the real game",
    "ranking": "whether a dream ranks policies as the real game does",
    "rl_speed": "speed of dreams while other processes run, in worker processes, and with PPO",
    "generation_speed": "seconds per frame: streaming against recomputing the window",
    "training_speed": "training steps per second",
    "data_speed": "collecting, storing and reading episodes, against Minari",
}
STUDIES = {
    "ablation": "what each part of the dynamics contributes",
    "coinrun_study": "reproduces the published CoinRun study, data collection included",
    "many_games": "whether pretraining on many games helps on a new game",
    "exploration": "coverage of AutoExplore against random play",
    "explore_cost": "cost of the uncertainty reward per step",
    "two_armed": "whether AutoExplore prefers uncertainty, and whether noise distracts it",
    "loop_gain": "how much AutoExplore's data improves a world model, compared with random play",
    "dream_ablation": "what each setting of dream-train contributes",
    "coinrun_limits": "what limits CoinRun dreams: tokenizer, motion, or newly visible areas",
    "dream_soak": "memory and drift over 100,000 dreamed frames",
    "survival": "whether the survival score detects damaged dreams",
    "step_calls": "function calls of one dreamed step, by file",
    "official_world": "speed of importing official checkpoints, and of their dreams",
    "container_choice": "size and speed of file formats for episodes",
    "catalogue": "the catalogue's labels against the public annotation and the probes",
    "long_dreams": "draws 1,000-frame dreams of each world model for the docs",
    "play_film": "records the page of genie-gym play for the README",
    "model_page": "draws the figures for docs/model.md and writes its tables",
}
"""One-off experiments, and scripts that draw figures for the docs."""


def module_of(name: str) -> str:
    """Return the name of the module that contains a benchmark or study."""
    return f"benchmarks.studies.{name}" if name in STUDIES else f"benchmarks.{name}"


def main(argv: list[str]) -> int:
    """Run a benchmark or a study; return the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = argv[0].replace("-", "_"), argv[1:]
    known = [*BENCHMARKS, *STUDIES]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown benchmark {argv[0]!r}.{hint}\n\n{_help()}")
    sys.argv = [f"genie-gym bench {name}", *rest]
    return importlib.import_module(module_of(name)).main(rest)


def _help() -> str:
    return "\n".join(
        [
            "usage: genie-gym bench NAME ...",
            "",
            "Benchmarks for your own world model or machine:",
            *_lines(BENCHMARKS),
            "",
            "Studies, one-off experiments that you can repeat:",
            *_lines(STUDIES),
            "",
            "genie-gym bench NAME --help lists its options.",
        ]
    )


def _lines(table: Mapping[str, str]) -> list[str]:
    width = max(map(len, (*BENCHMARKS, *STUDIES)))
    return [f"  {name:<{width}}  {text}" for name, text in table.items()]

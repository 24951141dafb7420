"""Measure the speed of real envs, of the libraries that they wrap, and of dreams.

Run: python -m benchmarks.env_speed [--world W] [--real | --dreams] [--quick] [--json FILE]
"""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.dream_speed import NUM_ROWS, measure_dreams
from benchmarks.env_speed_retro import measure_retro
from benchmarks.report import Measured, run_benchmark
from benchmarks.timing import ratio
from genie_gym.actions import action_set, procgen_actions
from genie_gym.envs.coinrun import CoinRunVectorEnv
from genie_gym.envs.procgen_rows import load_procgen

ROWS = 64
STEPS_PER_ROUND = 100
WARM_UP_STEPS = 60
THREADS = 2
DEFAULT_THREADS = 4  # bare procgen's default

Step = Callable[[np.ndarray], Any]


def measure_coinrun(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure CoinRun's vector env and bare procgen in turns, with the same random actions.

    Returns:
        The results, and one table row per timed env. The results are:

        * ``coinrun_vs_bare``: the vector env relative to bare procgen, both with two threads;
        * ``coinrun_vs_bare_defaults``: the same, both with their default number of threads;
        * ``coinrun_steps_per_second``: the vector env with its default number of threads.
    """
    ours, ours_default = CoinRunVectorEnv(ROWS, num_threads=THREADS), CoinRunVectorEnv(ROWS)
    contestants: dict[str, Step] = {
        f"bare procgen, {THREADS} threads": _bare_step(THREADS),
        f"env, {THREADS} threads": ours.step,
        "bare procgen, its default": _bare_step(DEFAULT_THREADS),
        "env, its default": ours_default.step,
        "bare procgen, no threads": _bare_step(0),
    }
    actions = np.random.default_rng(0).integers(7, size=(STEPS_PER_ROUND, ROWS))
    for env in (ours, ours_default):
        env.reset(seed=0)
    for step in contestants.values():
        _seconds(step, actions[:WARM_UP_STEPS])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(5 if quick else 25):
        for name, step in contestants.items():
            seconds[name].append(_seconds(step, actions))
    for env in (ours, ours_default):
        env.close()

    bare, mine, bare_default, mine_default, bare_alone = seconds.values()
    versus = [ratio(bare, mine), None, ratio(bare_default, mine_default), None]
    versus.append(ratio(bare_alone, mine_default))
    rows = [
        {
            "what": f"CoinRun {ROWS} rows, {name}",
            "steps/s": round(_speed(taken)),
            "env / this": "" if share is None else f"{share:.2f}",
        }
        for (name, taken), share in zip(seconds.items(), versus, strict=True)
    ]
    figures = {
        "coinrun_vs_bare": ratio(bare, mine),
        "coinrun_vs_bare_defaults": ratio(bare_default, mine_default),
        "coinrun_steps_per_second": _speed(mine_default),
    }
    return figures, rows


def _bare_step(num_threads: int) -> Step:
    game = load_procgen().ProcgenGym3Env(
        num=ROWS, env_name="coinrun", rand_seed=0, num_threads=num_threads
    )
    moves = np.array(procgen_actions(action_set("coinrun-7")), np.int32)

    def step(actions: np.ndarray) -> Any:
        game.act(moves[actions])
        return game.observe()

    return step


def _seconds(step: Step, actions: np.ndarray) -> float:
    begin = time.perf_counter()
    for chosen in actions:
        step(chosen)
    return time.perf_counter() - begin


def _speed(seconds: list[float]) -> float:
    return STEPS_PER_ROUND * ROWS / statistics.median(seconds)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--world", default="CoinRun", help="name or path of the world")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--real", action="store_true", help="measure only the real games")
    only.add_argument("--dreams", action="store_true", help="measure only the dreams")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=NUM_ROWS, help="numbers of sub-envs of the dreams"
    )


def measure(given: Namespace) -> Measured:
    parts = []
    if not given.real:
        parts.append(measure_dreams(given.world, given.quick, given.rows))
    if not given.dreams:
        parts += [measure_coinrun(given.quick), measure_retro(given.quick)]
    figures = {name: value for part, _ in parts for name, value in part.items()}
    return figures, [row for _, rows in parts for row in rows]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("env_speed", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()

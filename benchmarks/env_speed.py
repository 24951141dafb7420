"""How fast the real envs are beside the bare libraries under them.

Type: python -m benchmarks.env_speed --real [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.env_speed_retro import measure_retro
from benchmarks.report import report
from genie_gym.actions import action_set, procgen_actions
from genie_gym.envs.coinrun import CoinRunVectorEnv
from genie_gym.envs.procgen_rows import load_procgen

ROWS = 64
THREADS = 2
STEPS_PER_ROUND = 100
WARM_UP_STEPS = 60
BARE_THREADS = sorted({0, THREADS, 4, os.cpu_count() or 1})

Step = Callable[[np.ndarray], Any]


def measure_coinrun(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """CoinRun's vector env against bare procgen, in turns, with the same random actions.

    Returns:
        ``coinrun_vs_bare`` with the same number of threads on both sides, ``coinrun_vs_best_bare``
        against the fastest of bare procgen's thread numbers, ``coinrun_steps_per_second``; and
        one row of the table per contestant.
    """
    env = CoinRunVectorEnv(ROWS, num_threads=THREADS)
    env.reset(seed=0)
    contestants: dict[str, Step] = {f"env, {THREADS} threads": env.step}
    contestants |= {f"bare procgen, {n} threads": _bare_step(n) for n in BARE_THREADS}
    actions = np.random.default_rng(0).integers(7, size=(STEPS_PER_ROUND, ROWS))
    for step in contestants.values():
        _seconds(step, actions[:WARM_UP_STEPS])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(5 if quick else 25):
        for name, step in contestants.items():
            seconds[name].append(_seconds(step, actions))
    env.close()

    ours = seconds.pop(f"env, {THREADS} threads")
    ratios = {
        name: statistics.median(theirs / mine for theirs, mine in zip(bare, ours, strict=True))
        for name, bare in seconds.items()
    }
    figures = {
        "coinrun_vs_bare": ratios[f"bare procgen, {THREADS} threads"],
        "coinrun_vs_best_bare": min(ratios.values()),
        "coinrun_steps_per_second": _speed(ours),
    }
    rows = [_row(f"env, {THREADS} threads", ours, None)]
    rows += [_row(name, bare, ratios[name]) for name, bare in seconds.items()]
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


def _row(name: str, seconds: list[float], ratio: float | None) -> dict[str, Any]:
    return {
        "what": f"CoinRun {ROWS} rows, {name}",
        "steps/s": round(_speed(seconds)),
        "env / this": "" if ratio is None else f"{ratio:.2f}",
    }


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.env_speed", description=__doc__)
    parser.add_argument("--real", action="store_true", required=True, help="the real games")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", metavar="FILE", help="also write the figures into this file")
    given = parser.parse_args()
    figures, rows = measure_coinrun(given.quick)
    retro_figures, retro_rows = measure_retro(given.quick)
    report("env_speed", figures | retro_figures, rows + retro_rows, given.json)


if __name__ == "__main__":
    main()

"""Measure the speed of dreams in RL programs: next to busy processes, in workers and with PPO.

Run: python -m benchmarks.rl_speed [--world W] [--quick] [--json FILE]
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.report import Measured, run_benchmark
from benchmarks.timing import can_use_bfloat16, ratio
from genie_gym.envs.genie import GenieEnv, GenieVectorEnv
from world_models.inference.parallel import one_thread

ROWS = 16
NUM_WORKERS = 4
NUM_ACTIONS = 5  # every world has at least this many
PRECISION_ROWS = (1, 16, 64)
WARM_UP_STEPS = 20
SPAWN = multiprocessing.get_context("spawn")


def measure(given: Namespace) -> Measured:
    """Measure the dreams of one world model.

    Returns:
        The results, and the rows of the table. Most results compare two speeds. Dreams have 16
        rows (sub-envs), except in the comparisons of workers and of dtypes:

        * ``two_dreams``: two processes that run one dream each, in total, relative to one process;
        * ``beside_busy``: a dream while two other processes are busy, relative to a dream alone;
        * ``async_fork_over_sync`` and ``async_spawn_over_sync``: `AsyncVectorEnv` with 4 workers,
          relative to `SyncVectorEnv`;
        * ``ppo_share``: PPO with `CnnPolicy`, relative to stepping without learning;
        * ``dream_train_share``: the agent of `genie-gym dream-train`, relative to stepping;
        * ``auto_vs_best_dream``: ``dtype="auto"`` relative to the fastest explicit dtype, for the
          number of rows with the lowest ratio.

        Three results are speeds: ``steps_per_s_1``, ``steps_per_s_16`` and ``steps_per_s_64``, of
        dreams with as many rows, with ``dtype="auto"``.
    """
    world, quick = given.world, given.quick
    seconds, rounds = (2.0, 1) if quick else (8.0, 3)
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []

    def add(what: str, speed: float, share: float | None = None, figure: str = "") -> None:
        more = {} if share is None else {"ratio": f"{share:.2f}"}
        rows.append({"what": what, "steps/s": round(speed), **more})
        if figure and share is not None:
            figures[figure] = share

    alone = statistics.median(sum(dreams(world, 1, seconds)) for _ in range(rounds))
    two = statistics.median(sum(dreams(world, 2, seconds)) for _ in range(rounds))
    with busy(2):
        beside = statistics.median(sum(dreams(world, 1, seconds)) for _ in range(rounds))
    add(f"one dream of {ROWS} rows", alone)
    add("two such dreams in two processes", two, two / alone, "two_dreams")
    add("one beside two busy processes", beside, beside / alone, "beside_busy")
    for context in ("fork", "spawn"):
        sync, parallel = workers(world, context, rounds=3 if quick else 10)
        share = ratio(sync, parallel)
        speed = NUM_WORKERS / statistics.median(parallel)
        what = f"AsyncVectorEnv, {NUM_WORKERS} workers, {context} (over SyncVectorEnv)"
        add(what, speed, share, f"async_{context}_over_sync")
    for agent, title in (("ppo", "PPO with CnnPolicy"), ("dream_train", "dream-train's agent")):
        stepping, learning = agents(world, agent, updates=1 if quick else 5)
        add(f"stepping {ROWS} rows", stepping)
        add(f"{title} learning from them", learning, learning / stepping, f"{agent}_share")
    worst, dtypes = 1.0, ["auto", "float32"]
    if can_use_bfloat16(torch.device("cpu")):
        dtypes.append("bfloat16")
    for num_rows in PRECISION_ROWS:
        auto, *explicit = precisions(world, dtypes, num_rows, rounds=2 if quick else 8)
        share = max(ratio(auto, other) for other in explicit)
        worst = min(worst, 1 / share)
        figures[f"steps_per_s_{num_rows}"] = num_rows / statistics.median(auto)
        for dtype, taken in zip(dtypes, (auto, *explicit), strict=True):
            add(f"{num_rows} rows, dtype {dtype}", num_rows / statistics.median(taken))
    figures["auto_vs_best_dream"] = worst
    return figures, rows


def dreams(world: str, num_processes: int, seconds: float) -> list[float]:
    """Return the steps per second of dreams that run at the same time in separate processes."""
    barrier, results = SPAWN.Barrier(num_processes), SPAWN.SimpleQueue()
    processes = [
        SPAWN.Process(target=_dream, args=(world, seconds, barrier, results))
        for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [results.get() for _ in processes]


def _dream(world: str, seconds: float, barrier: Barrier, results: Any) -> None:
    env = GenieVectorEnv(world, ROWS)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(WARM_UP_STEPS):
        env.step(rng.integers(len(env.actions), size=ROWS))
    barrier.wait()
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        env.step(rng.integers(len(env.actions), size=ROWS))
        steps += ROWS
    results.put(steps / elapsed)


@contextmanager
def busy(num_processes: int) -> Iterator[None]:
    """Keep this many other processes busy."""
    processes = [SPAWN.Process(target=_count, daemon=True) for _ in range(num_processes)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _count() -> None:
    number = 0
    while True:
        number += 1


def workers(world: str, context: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds per step of `SyncVectorEnv` and `AsyncVectorEnv`, measured in turns."""
    make = [partial(GenieEnv, world)] * NUM_WORKERS
    envs = [gym.vector.SyncVectorEnv(make), gym.vector.AsyncVectorEnv(make, context=context)]
    taken = _in_turns(envs, rounds, steps=10)
    for env in envs:
        env.close()
    return taken[0], taken[1]


def precisions(world: str, dtypes: list[str], num_rows: int, rounds: int) -> list[list[float]]:
    """Return the seconds per step with each dtype, measured in turns."""
    envs = [GenieVectorEnv(world, num_rows, dtype=dtype) for dtype in dtypes]
    return _in_turns(envs, rounds, steps=max(2, 64 // num_rows))


def _in_turns(envs: list[Any], rounds: int, steps: int) -> list[list[float]]:
    rng = np.random.default_rng(0)
    taken: list[list[float]] = [[] for _ in envs]
    for env in envs:
        env.reset(seed=0)
    for round_ in range(rounds + 1):
        actions = rng.integers(NUM_ACTIONS, size=(steps, envs[0].num_envs))
        for env, seconds in zip(envs, taken, strict=True):
            start = time.perf_counter()
            for chosen in actions:
                env.step(chosen)
            if round_:  # the first round is warm-up
                seconds.append((time.perf_counter() - start) / steps)
    return taken


def agents(world: str, agent: str, updates: int) -> tuple[float, float]:
    """Return the steps per second of stepping alone and of PPO, which learns from each step.

    Args:
        world: Name or path of the world model.
        agent: "ppo", with the batches and epochs that are usual for Atari games, or "dream_train".
        updates: Number of rollouts to learn from.
    """
    # Imported here, so that the other processes do not import Stable-Baselines3.
    from stable_baselines3 import PPO

    from agents.dream_config import recipe_of
    from agents.ppo import new_ppo

    config = replace(recipe_of(world), num_envs=ROWS)
    env = config.training_env()
    steps = config.rollout * ROWS * updates
    if agent == "ppo":
        model: Any = PPO(
            "CnnPolicy", env, n_steps=config.rollout, batch_size=256, n_epochs=4, seed=0
        )
        threads: Callable[[], AbstractContextManager[None]] = nullcontext
    else:
        model, threads = new_ppo(config, env), one_thread
    rng = np.random.default_rng(0)
    with threads():
        model.learn(config.rollout * ROWS)  # warm-up
        start = time.perf_counter()
        model.learn(steps)
        learning = steps / (time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(config.rollout * updates):
            env.step(rng.integers(NUM_ACTIONS, size=ROWS))
        return steps / (time.perf_counter() - start), learning


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--world", default="CrazyClimber", help="name or path of the world")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("rl_speed", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()

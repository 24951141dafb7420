"""Measure the cost of AutoExplore's reward: steps per second in CoinRun with and without it.

By default, the world model is untrained; it takes as long as a trained model of the same size.

Run: python -m benchmarks.studies.explore_cost [--rows N] [--world W] [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv

import genie_gym  # noqa: F401  (registers the env ids)
from benchmarks.report import Measured, run_benchmark
from genie_gym.actions import action_set
from genie_gym.wrappers import DynamicsEntropyVector, IntrinsicRewardVector, RandomNetworkMeter
from world_models import presets
from world_models.worlds.bundle import StartBank, save_world
from world_models.worlds.card import WorldCard

NUM_ROWS, NUM_THREADS = 16, 2
WARM_UP, REPEATS, STEPS, QUICK_STEPS = 2, 3, 8, 3
MODES = ("streaming", "paper", "surprise")


def untrained_world(folder: Path) -> Path:
    """Save an untrained world model with the size of the recipe `coinrun`; return its path."""
    torch.manual_seed(0)
    actions = action_set("coinrun-7")
    card = WorldCard(
        name="CoinRun",
        action_set=actions.name,
        action_meanings=actions.meanings,
        env_id="Procgen/CoinRun-v0",
    )
    frames = torch.zeros(1, 2, 64, 64, 3, dtype=torch.uint8)
    starts = StartBank(frames=frames, actions=torch.zeros(1, 1, dtype=torch.int64))
    save_world(folder / card.name, card, presets.build(presets.coinrun()).eval(), starts)
    return folder / card.name


def steps_per_second(env: VectorEnv, steps: int) -> float:
    """Return the steps per second, summed over sub-envs: the median of several repeats."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    num_actions = env.single_action_space.n  # type: ignore[attr-defined]
    for _ in range(WARM_UP):
        env.step(rng.integers(num_actions, size=env.num_envs))
    rates = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(steps):
            env.step(rng.integers(num_actions, size=env.num_envs))
        rates.append(steps * env.num_envs / (time.perf_counter() - begun))
    return float(np.median(rates))


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help="number of CoinRun rows")
    parser.add_argument("--world", help="name or path of the world to measure")


def measure(given: Namespace) -> Measured:
    torch.set_num_threads(NUM_THREADS)
    steps = QUICK_STEPS if given.quick else STEPS

    def rows() -> VectorEnv:
        return gym.make_vec("Procgen/CoinRun-v0", num_envs=given.rows, autoreset_mode="SameStep")

    with tempfile.TemporaryDirectory() as folder:
        world = given.world or untrained_world(Path(folder))
        envs = {
            "bare": rows(),
            "rnd": IntrinsicRewardVector(rows(), RandomNetworkMeter()),
            **{mode: DynamicsEntropyVector(rows(), world, mode=mode) for mode in MODES},
        }
        rates = {name: steps_per_second(env, steps) for name, env in envs.items()}
    figures = {f"{name}_steps_per_second": rate for name, rate in rates.items()}
    table = [
        {"reward": name, "steps/s": rate, "ms per step of all rows": 1000 * given.rows / rate}
        for name, rate in rates.items()
    ]
    return figures, table


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("studies.explore_cost", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()

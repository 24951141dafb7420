"""Measure what each setting of `genie-gym dream-train` contributes, on one game.

Each variant changes one setting. Each agent is evaluated in the real game and, from the same first
frames, in the dream that it was trained in.

Run: python -m benchmarks.studies.dream_ablation [--world W] [--seeds N] [--quick] [--json FILE]
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.dream_command import run_rounds
from agents.dream_config import DreamTrainConfig, recipe_of
from agents.dream_train import dream_train
from agents.loop.dream_rounds import DreamRounds
from benchmarks.report import Measured, run_benchmark
from benchmarks.statistics import iqm
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.envs.loaded_worlds import open_world

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "few starts": {"starts": None},
    "horizon 32": {"horizon": 32},
    "horizon 500": {"horizon": 500},
    "truncate when unsure": {"truncate_when_unsure": 0.5},
    "uncertainty penalty": {"uncertainty_penalty": 20.0},
    "one round": {"rounds": 1, "starts": None},  # a round collects its own starts
}


def base(given: Namespace) -> DreamTrainConfig:
    """Collect real episodes to start dreams from; return the settings that all variants share."""
    card = open_world(given.world).card
    starts = given.work / "starts"
    episodes, steps, eval_steps = (2, 2_048, 50) if given.quick else (40, given.steps, 500)
    play = CollectConfig(
        env=card.env_id,
        out=starts,
        policy="mixed",
        episodes=episodes,
        seed=1_000_000,
        env_kwargs={key: str(value) for key, value in card.env_kwargs.items()},
    )
    if collect(play):
        raise KeyboardInterrupt
    return replace(
        recipe_of(given.world),
        starts=starts,
        steps=steps,
        eval_every=steps,
        eval_steps=eval_steps,
        eval_episodes=8,
        round_frames=1_000 if given.quick else 20_000,
        round_steps=2 if given.quick else 200,
        max_overpay=0.0,
    )


def trained(config: DreamTrainConfig) -> dict[str, Any]:
    """Train an agent and return its last evaluation."""
    if not config.rounds:
        return dream_train(config)[-1]
    rounds = DreamRounds(config)
    if not run_rounds(config, rounds):
        raise RuntimeError("interrupted: run the same command again")
    return rounds.results()[-1]


def measure(given: Namespace) -> Measured:
    """Train all variants.

    Returns:
        The results, and a table row per variant. The results for each variant are ``real_return``,
        with the bounds ``_low`` and ``_high`` of a 95% interval over the seeds, and ``overpay``,
        the return in the dream divided by the return in the real game.
    """
    config = base(given)
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for name in given.variants:
        changes, key = VARIANTS[name], name.replace(" ", "_")
        results = [
            trained(replace(config, out=given.work / f"{key}-{seed}", seed=seed, **changes))
            for seed in range(given.seeds)
        ]
        real = np.array([result["real_return"] for result in results])
        dream = np.array([result["dream_return"] for result in results])
        mean, low, high = iqm(real[:, None])
        overpay = float(dream.mean() / max(real.mean(), 1e-9))
        figures |= {f"real_return_{key}": mean, f"overpay_{key}": overpay}
        figures |= {f"real_return_{key}_low": low, f"real_return_{key}_high": high}
        rows.append(
            {
                "variant": name,
                "real return": f"{mean:.4g} ({low:.4g} to {high:.4g})",
                "dreamed over real": overpay,
            }
        )
    return figures, rows


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--world", default="CrazyClimber", help="name or path of the world")
    parser.add_argument("--steps", type=int, default=40_960, help="training steps per agent")
    parser.add_argument("--seeds", type=int, default=3, help="agents per variant")
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="variants to run"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/dream-ablation"), help="folder for the runs"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("studies.dream_ablation", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()

"""Check that a world pays policies as reality does: the returns of scripted policies in both.

The policies hold one action, or alternate between two at every step or every fourth, or are random.
Such play is unlike what worlds are trained on, as is the play of an agent that learns.

Run: python -m benchmarks.studies.policy_ranking [--world W] [--steps N] [--quick] [--json FILE]
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from itertools import combinations

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

import genie_gym  # noqa: F401  (registers the env ids)
from benchmarks.dreams.scores import rank_correlation
from benchmarks.report import Measured, run_benchmark
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.envs.loaded_worlds import open_world

ROWS, REAL_ROWS = 8, 2
PERIODS = (1, 4)  # steps between the changes of an alternating policy

Actions = NDArray[np.int64]
Policy = Callable[[int, int], Actions]
"""Maps the step and the number of rows to actions."""


def policies(meanings: tuple[str, ...]) -> dict[str, Policy]:
    """Return the scripted policies of an action set, by name."""
    rng = np.random.default_rng(0)
    found: dict[str, Policy] = {"random": lambda t, rows: rng.integers(len(meanings), size=rows)}
    for action, name in enumerate(meanings):
        found[name] = alternating(action, action, 1)
    for (a, one), (b, other) in combinations(enumerate(meanings), 2):
        for period in PERIODS:
            found[f"{one}/{other} every {period}"] = alternating(a, b, period)
    return found


def alternating(a: int, b: int, period: int) -> Policy:
    """Return the policy that changes between two actions every `period` steps."""
    return lambda t, rows: np.full(rows, b if t // period % 2 else a)


def mean_return(
    env: gym.vector.VectorEnv, policy: Policy, steps: int, **options: NDArray[np.uint8]
) -> float:
    """Return the mean over rows of the sum of rewards of the first episode, up to `steps`."""
    env.reset(seed=0, options=options)
    total, playing = np.zeros(env.num_envs), np.ones(env.num_envs, np.bool_)
    for t in range(steps):
        _, rewards, terminated, truncated, _ = env.step(policy(t, env.num_envs))
        total += rewards * playing
        playing &= ~(terminated | truncated)
    return float(total.mean())


def measure(given: Namespace) -> Measured:
    """Play all policies in the world and in its real game.

    Returns:
        ``rank_correlation`` of the returns; ``largest_overpay``, by how much the dream pays a
        policy more than reality, in returns of the best real policy; ``best_regret``, how much less
        the dream's best policy earns in reality than the really best one, likewise; and one row
        per policy.
    """
    card = open_world(given.world).card
    steps = 150 if given.quick else given.steps
    dream = GenieVectorEnv(given.world, ROWS)
    real = gym.make_vec(
        card.env_id, num_envs=REAL_ROWS, action_set=card.action_set, **card.env_kwargs
    )
    first = real.reset(seed=0)[0][:1]  # dreams begin where the game begins
    rows = [
        {
            "policy": name,
            "real return": mean_return(real, policy, steps),
            "dreamed return": mean_return(dream, policy, steps, frames=first),
        }
        for name, policy in policies(card.action_meanings).items()
    ]
    real.close()
    returns = np.array([[row["real return"], row["dreamed return"]] for row in rows], np.float64)
    earned, paid = (returns / max(returns[:, 0].max(), 1e-9)).round(3).T
    figures = {
        "rank_correlation": rank_correlation(torch.tensor(paid), torch.tensor(earned)),
        "largest_overpay": float((paid - earned).max()),
        "best_regret": float(earned.max() - earned[paid.argmax()]),
    }
    return figures, rows


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--world", default="CrazyClimber", help="name or path of the world")
    parser.add_argument("--steps", type=int, default=300, help="per policy")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("studies.policy_ranking", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()

"""Compare rewards and terminations per 1,000 steps in long dreams and in the real game.

The same policies are run in the dream and in the game, from the same starts. A world model that
predicts held-out episodes well may still overestimate a policy's rewards, or terminate too often,
in situations that arise only in dreams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.returns import Played, make_real
from benchmarks.matched import REAL_ROWS, find_starts, played_dreams, played_real
from benchmarks.players import Player, by_spec
from genie_gym.envs.genie import GenieVectorEnv

__all__ = ["Rates", "measure_rates", "per_1000_steps"]

NO_LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Rates:
    """A policy's rewards and terminations per 1,000 steps.

    Attributes:
        name: Name of the policy.
        rewards: Sum of the rewards per 1,000 steps, in the dream and in the game.
        ends: Number of terminations per 1,000 steps, in the dream and in the game.
    """

    name: str
    rewards: tuple[float, float]
    ends: tuple[float, float]

    def figures(self) -> dict[str, float]:
        """Return ``rate_reward_dream_NAME``, ``rate_ends_real_NAME`` and so on."""
        found = {}
        for what, pair in (("reward", self.rewards), ("ends", self.ends)):
            for where, rate in zip(("dream", "real"), pair, strict=True):
                found[f"rate_{what}_{where}_{self.name}"] = rate
            if pair[1]:
                found[f"rate_{what}_ratio_{self.name}"] = pair[0] / pair[1]
        return found


def measure_rates(
    world: str,
    policies: dict[str, str],
    *,
    num_starts: int,
    steps: int,
    dreaming: Mapping[str, Any] | None = None,
) -> list[Rates]:
    """Run policies in the dream and in the game, from the same starts.

    Args:
        world: Name or path of the world model.
        policies: Policies by name, each specified as in `genie-gym collect`.
        num_starts: Number of starts.
        steps: Maximum steps per policy and start.
        dreaming: Further arguments for `GenieVectorEnv`; None for none.
    """
    real_env = make_real(world, REAL_ROWS, NO_LIMIT, unseen=True)
    rows = num_starts * len(policies)
    dream_env = GenieVectorEnv(world, rows, autoreset_mode="Disabled", **(dreaming or {}))
    starts = find_starts(real_env, num_starts, seed=2)
    players = [
        Player(name=name, inside=True, make=by_spec(world, spec)) for name, spec in policies.items()
    ]
    dreams = played_dreams(dream_env, starts, players, 0, steps)
    found = []
    for player, dream in zip(players, dreams, strict=True):
        real = played_real(real_env, starts, player, 0, steps)
        rewards, ends = zip(per_1000_steps(dream), per_1000_steps(real), strict=True)
        found.append(Rates(name=player.name, rewards=rewards, ends=ends))
    real_env.close()
    dream_env.close()
    return found


def per_1000_steps(played: Played) -> tuple[float, float]:
    """Return the sum of the rewards and the number of terminations, per 1,000 steps."""
    per_step = 1000 / float(played.lengths.sum())
    return float(played.rewards.sum()) * per_step, float(played.terminated.sum()) * per_step

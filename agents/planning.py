"""Planning in a dream: try many futures from one saved state, all in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["Plan", "PlannerConfig", "plan"]


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """The cross-entropy method over sequences of actions; one round is random shooting.

    Attributes:
        horizon: Actions of a plan.
        rounds: Batches of futures; after each, actions of the best ones become likelier.
        elites: Share of the futures that count as the best.
        smoothing: Share of the old probabilities kept from round to round.
        discount: Of rewards, per step.
        repeat: Steps for which each action of a plan is held.
    """

    horizon: int = 12
    rounds: int = 3
    elites: float = 0.125
    smoothing: float = 0.1
    discount: float = 1.0
    repeat: int = 1

    def __post_init__(self) -> None:
        for name in ("horizon", "rounds", "repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.elites <= 1 or not 0 <= self.smoothing < 1 or not 0 < self.discount <= 1:
            raise ValueError(
                "expected 0 < elites <= 1, 0 <= smoothing < 1 and 0 < discount <= 1, got "
                f"{self.elites}, {self.smoothing} and {self.discount}"
            )


@dataclass(frozen=True)
class Plan:
    """The best future found.

    Attributes:
        actions: int64 ``(horizon,)``.
        value: Its sum of rewards.
        values: That of every future of the last round ``(num_envs,)``.
    """

    actions: NDArray[np.int64]
    value: float
    values: NDArray[np.float64]


def plan(
    dreams: FrameVectorEnv, state: bytes, config: PlannerConfig, rng: np.random.Generator
) -> Plan:
    """Searches for the actions with the largest sum of rewards.

    Args:
        dreams: A vector env to try futures in, one per row; 64 rows are a good number.
        state: What ``save_state()`` of an env of the same kind returned: where to plan from.
        config: How to search.
        rng: Draws the actions.
    """
    num_futures, num_actions = dreams.num_envs, len(dreams.actions)
    odds = np.full((config.horizon, num_actions), 1 / num_actions)
    num_elites = max(1, round(config.elites * num_futures))
    best: Plan | None = None
    for _ in range(config.rounds):
        drawn = rng.random((num_futures, config.horizon, 1))
        actions = (drawn > odds.cumsum(-1)[..., :-1]).sum(-1)
        values = _returns(dreams, state, actions, config)
        order = np.argsort(-values, kind="stable")
        if best is None or values[order[0]] >= best.value:
            best = Plan(actions[order[0]], float(values[order[0]]), values)
        frequent = np.eye(num_actions)[actions[order[:num_elites]]].mean(0)
        odds = config.smoothing * odds + (1 - config.smoothing) * frequent
    assert best is not None
    return Plan(best.actions, best.value, values)


def _returns(
    dreams: FrameVectorEnv, state: bytes, actions: NDArray[np.int64], config: PlannerConfig
) -> NDArray[np.float64]:
    """The sum of rewards of each row's actions, up to the end of its episode."""
    dreams.load_state([state] * dreams.num_envs)
    values, alive = np.zeros(len(actions)), np.ones(len(actions), np.bool_)
    steps = np.repeat(actions, config.repeat, axis=1)
    for step, chosen in enumerate(steps.T):
        _, rewards, terminated, truncated, _ = dreams.step(chosen)
        values += alive * rewards * config.discount**step
        alive &= ~(terminated | truncated)
        if not alive.any():
            break
    return values

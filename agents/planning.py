"""Planning in a dream: tries many action sequences from one saved state, in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["Plan", "PlannerConfig", "plan"]


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Settings of the cross-entropy method over action sequences; one round is random shooting.

    Attributes:
        horizon: Number of actions in a plan.
        rounds: Number of batches to sample. The best sequences of a batch set the action
            probabilities of the next batch.
        elites: Fraction of the sequences that count as the best, in (0, 1].
        smoothing: Weight of the previous action probabilities in each update, in [0, 1).
        discount: Discount factor per step, in (0, 1].
        repeat: Number of steps for which each action is repeated.
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
    """The best action sequence found.

    Attributes:
        actions: The actions, int64 ``(horizon,)``.
        value: Return of the sequence.
        values: Return of every sequence in the last round, ``(num_envs,)``.
    """

    actions: NDArray[np.int64]
    value: float
    values: NDArray[np.float64]


def plan(
    dreams: FrameVectorEnv, state: bytes, config: PlannerConfig, rng: np.random.Generator
) -> Plan:
    """Searches for the actions with the largest return.

    Args:
        dreams: A vector env; each sub-env tries one sequence. 64 sub-envs work well.
        state: The state to plan from, as returned by ``save_state()`` of the same type of env.
        config: Settings of the search.
        rng: Random generator for sampling the actions.
    """
    num_sequences, num_actions = dreams.num_envs, len(dreams.actions)
    probs = np.full((config.horizon, num_actions), 1 / num_actions)
    num_elites = max(1, round(config.elites * num_sequences))
    best: Plan | None = None
    for _ in range(config.rounds):
        drawn = rng.random((num_sequences, config.horizon, 1))
        actions = (drawn > probs.cumsum(-1)[..., :-1]).sum(-1)
        values = _returns(dreams, state, actions, config)
        order = np.argsort(-values, kind="stable")
        if best is None or values[order[0]] >= best.value:
            best = Plan(actions[order[0]], float(values[order[0]]), values)
        frequent = np.eye(num_actions)[actions[order[:num_elites]]].mean(0)
        probs = config.smoothing * probs + (1 - config.smoothing) * frequent
    assert best is not None
    return Plan(best.actions, best.value, values)


def _returns(
    dreams: FrameVectorEnv, state: bytes, actions: NDArray[np.int64], config: PlannerConfig
) -> NDArray[np.float64]:
    """Computes each sub-env's return for its actions, up to the end of the episode."""
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

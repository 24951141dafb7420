"""Policies that choose actions for the rows (sub-envs) of a vector env during collection.

All randomness in an episode comes from the generator passed to `begin`, so an episode does not
depend on its row or on the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from genie_gym.collect.plans import Plan, random_plan

__all__ = ["EpsilonGreedy", "Mixture", "Planned", "Policy"]


class Policy(Protocol):
    """Chooses one action per row."""

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode in a row, with its own random generator."""

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns one action per row for the newest frames ``(num_envs, H, W, 3)``."""


class Planned:
    """Plays actions that are sampled at the start of the episode, independently of the frames.

    Args:
        plan: Samples the actions for a whole episode.
        num_envs: Number of sub-envs, called rows.
        max_steps: Maximum number of steps per episode.
    """

    def __init__(self, plan: Plan, num_envs: int, max_steps: int):
        self._plan = plan
        self._actions = np.zeros((num_envs, max_steps), np.int64)
        self._step = np.zeros(num_envs, np.intp)
        self._rows = np.arange(num_envs)

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Samples the episode's actions."""
        self._actions[row] = self._plan(rng, self._actions.shape[1])
        self._step[row] = 0

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the next planned action of each row."""
        actions = self._actions[self._rows, self._step]
        self._step = np.minimum(self._step + 1, self._actions.shape[1] - 1)
        return actions


class EpsilonGreedy:
    """Replaces each of another policy's actions with a random one with probability epsilon."""

    def __init__(
        self, policy: Policy, *, epsilon: float, num_actions: int, num_envs: int, max_steps: int
    ):
        def toss(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
            return (rng.random(length) < epsilon).astype(np.int64)

        self._policy = policy
        self._random = Planned(random_plan(num_actions), num_envs, max_steps)
        self._coins = Planned(toss, num_envs, max_steps)

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode in a row.

        The policy, the random actions and the choice between them have separate generators, so
        epsilon does not affect the policy's sampling.
        """
        for part, own in zip((self._policy, self._random, self._coins), rng.spawn(3), strict=True):
            part.begin(row, own)

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the policy's actions, some of them replaced with random ones."""
        chosen, random = self._policy.act(frames), self._random.act(frames)
        return np.where(self._coins.act(frames) == 1, random, chosen)


class Mixture:
    """Plays each episode with one of several policies, chosen when the episode starts.

    Args:
        policies: The policies; each must handle all rows.
        shares: The probability of each policy, up to a common factor.
        num_envs: Number of sub-envs, called rows.
    """

    def __init__(self, policies: Sequence[Policy], shares: Sequence[float], num_envs: int):
        self._policies, self._shares = policies, np.array(shares) / sum(shares)
        self._chosen = np.full(num_envs, -1)

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Chooses the policy that plays the episode."""
        self._chosen[row] = rng.choice(len(self._policies), p=self._shares)
        self._policies[self._chosen[row]].begin(row, rng)

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the action that each row's own policy chooses."""
        actions = np.zeros(len(self._chosen), np.int64)
        for index in np.unique(self._chosen):
            rows = self._chosen == index
            actions[rows] = self._policies[index].act(frames)[rows]
        return actions

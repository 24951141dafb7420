"""Policies that choose actions for the rows of a vector env while episodes are collected.

All randomness of an episode comes from the generator passed to `begin`, so an episode does not
depend on its row or on the other rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genie_gym.actions import ActionSet

__all__ = ["EpsilonGreedy", "Planned", "Policy", "make_policy", "random_plan", "sticky_plan"]

Plan = Callable[[np.random.Generator, int], NDArray[np.int64]]

# Loads a saved agent. A string, because this layer must not import the layer above.
_LOAD_AGENT = "agents.saved_policy:load_policy"


class Policy(Protocol):
    """Chooses one action per row."""

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode in a row, with its own random generator."""

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns one action per row for the newest frames ``(num_envs, H, W, 3)``."""


class Planned:
    """Plays actions that are sampled at the start of the episode, independent of the frames.

    Args:
        plan: Samples the actions of a whole episode.
        num_envs: Number of sub-envs, called rows.
        max_steps: Maximum steps per episode.
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
    """Replaces some of another policy's actions by uniformly random ones."""

    def __init__(self, policy: Policy, random: Planned, coins: Planned):
        self._policy, self._random, self._coins = policy, random, coins

    @classmethod
    def over(
        cls, policy: Policy, *, epsilon: float, num_actions: int, num_envs: int, max_steps: int
    ) -> EpsilonGreedy:
        """Wraps a policy so that each action is random with probability epsilon."""

        def toss(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
            return (rng.random(length) < epsilon).astype(np.int64)

        return cls(
            policy,
            Planned(random_plan(num_actions), num_envs, max_steps),
            Planned(toss, num_envs, max_steps),
        )

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Gives each part its own generator, so epsilon does not affect the policy's sampling."""
        for part, own in zip((self._policy, self._random, self._coins), rng.spawn(3), strict=True):
            part.begin(row, own)

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the policy's actions, some replaced."""
        chosen, random = self._policy.act(frames), self._random.act(frames)
        return np.where(self._coins.act(frames) == 1, random, chosen)


def random_plan(num_actions: int) -> Plan:
    """Samples each action uniformly, as in the paper."""
    return lambda rng, length: rng.integers(num_actions, size=length)


def sticky_plan(actions: ActionSet, *, mean_hold: float = 8.0) -> Plan:
    """Samples actions that are held for several steps, mostly moves; goes further than random play.

    Actions to the right have weight 4, NOOP 1 and all others 2. An action is held for a
    geometrically distributed number of steps with mean `mean_hold`.
    """
    weights = np.array(
        [4.0 if "RIGHT" in m else 1.0 if m == "NOOP" else 2.0 for m in actions.meanings]
    )
    weights /= weights.sum()

    def plan(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        holds = rng.geometric(1 / mean_hold, size=length)
        return np.repeat(rng.choice(len(actions), size=length, p=weights), holds)[:length]

    return plan


def make_policy(
    spec: str,
    actions: ActionSet,
    *,
    num_envs: int,
    max_steps: int,
    epsilon: float = 0.0,
    temperature: float = 1.0,
    env_kwargs: dict[str, Any] | None = None,
) -> Policy:
    """Makes a policy from the options of the command line.

    Args:
        spec: ``"random"``, ``"sticky"``, or the folder of a saved agent.
        actions: The env's action set.
        num_envs: Number of sub-envs, called rows.
        max_steps: Maximum steps per episode.
        epsilon: Probability that an action is replaced by a uniformly random one.
        temperature: Temperature of a saved agent's action distribution; 0 takes the most likely
            action.
        env_kwargs: The env's keyword arguments; a saved agent checks those it depends on.
    """
    policy: Policy
    if spec == "random":
        policy = Planned(random_plan(len(actions)), num_envs, max_steps)
    elif spec == "sticky":
        policy = Planned(sticky_plan(actions), num_envs, max_steps)
    elif Path(spec).is_dir():
        module, function = _LOAD_AGENT.split(":")
        load: Callable[..., Any] = getattr(importlib.import_module(module), function)
        policy = load(
            Path(spec),
            actions=actions,
            env_kwargs=env_kwargs or {},
            num_envs=num_envs,
            temperature=temperature,
        )
    else:
        raise ValueError(
            f"policy must be 'random', 'sticky' or the folder of a saved agent, got {spec!r}"
        )
    if epsilon == 0:
        return policy
    return EpsilonGreedy.over(
        policy,
        epsilon=epsilon,
        num_actions=len(actions),
        num_envs=num_envs,
        max_steps=max_steps,
    )

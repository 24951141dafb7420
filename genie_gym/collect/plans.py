"""Plans: policies that ignore the frames and sample all actions at the start of an episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from genie_gym.actions import ActionSet

__all__ = ["PLANS", "Plan", "alternating_plan", "held_plan", "random_plan", "sticky_plan"]

Plan = Callable[[np.random.Generator, int], NDArray[np.int64]]
"""Takes a random generator and a number of actions, and returns that many sampled actions."""


def random_plan(num_actions: int) -> Plan:
    """Samples each action uniformly, as in the AutoExplore paper."""
    return lambda rng, length: rng.integers(num_actions, size=length)


def sticky_plan(actions: ActionSet, *, mean_hold: float = 8.0) -> Plan:
    """Samples actions and holds each for several steps, which gets further than random actions.

    Actions to the right have weight 4, NOOP has weight 1, and all other actions have weight 2. An
    action is held for a geometrically distributed number of steps with mean `mean_hold`.
    """
    weights = np.array(
        [4.0 if "RIGHT" in m else 1.0 if m == "NOOP" else 2.0 for m in actions.meanings]
    )
    weights /= weights.sum()

    def plan(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        holds = rng.geometric(1 / mean_hold, size=length)
        return np.repeat(rng.choice(len(actions), size=length, p=weights), holds)[:length]

    return plan


def held_plan(num_actions: int) -> Plan:
    """Holds a random action for 8 to 64 steps, then another one, as an agent that walks does."""

    def plan(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        holds = rng.integers(8, 65, size=length // 8 + 1)
        return np.repeat(rng.integers(num_actions, size=len(holds)), holds)[:length]

    return plan


def alternating_plan(num_actions: int) -> Plan:
    """Alternates between two random actions every 1, 2, 4 or 8 steps.

    A new pair of actions is drawn after 32 to 128 steps. Agents trained in a dream learn to
    alternate actions if the dream rewards it. The other policies rarely alternate, so without this
    plan a world model would have little data on what really happens then.
    """

    def plan(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        parts = []
        for steps in rng.integers(32, 129, size=length // 32 + 1):
            pair = rng.integers(num_actions, size=2)
            period = 2 ** rng.integers(4)
            parts.append(pair[np.arange(steps) // period % 2])
        return np.concatenate(parts)[:length]

    return plan


PLANS: dict[str, Callable[[ActionSet], Plan]] = {
    "random": lambda actions: random_plan(len(actions)),
    "sticky": sticky_plan,
    "held": lambda actions: held_plan(len(actions)),
    "alternating": lambda actions: alternating_plan(len(actions)),
}
"""Each plan's name, and the function that makes the plan for an action set."""

"""Plays each action from the same game states, for a probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym.actions import action_set
from genie_gym.collect.plans import sticky_plan
from genie_gym.envs.retro import RetroVectorEnv

__all__ = ["ACTIONS", "Branches", "ProbeConfig", "play_branches"]

ACTIONS = action_set("retroact-7")
_NOOP = ACTIONS.index("NOOP")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Settings of a probe.

    Attributes:
        num_states: Number of states from which the actions are played. Random play reaches them.
        first: Steps of random play before the first state.
        last: Steps of random play before the last state. Many steps are slow if the emulator has
            to replay them to restore a state.
        settle: Steps without a button before each state, so that jumps have ended.
        hold: Number of steps for which each action is held; a step is four emulated frames.
        seed: Seed for the random play.
    """

    num_states: int = 16
    first: int = 12
    last: int = 150
    settle: int = 6
    hold: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_states, self.hold) < 1 or min(self.first, self.settle, self.seed) < 0:
            raise ValueError(
                "`num_states` and `hold` must be at least 1, and `first`, `settle` and `seed` at "
                f"least 0, got {self}"
            )
        if self.last < self.first:
            raise ValueError(f"`last` must be at least `first` = {self.first}, got {self.last}")


@dataclass(frozen=True, kw_only=True)
class Branches:
    """The results of each action from one state.

    Attributes:
        screens: For each of `ACTIONS`, the screen after each step, ``(A, T, H, W, 3)``.
        memories: For each of `ACTIONS`, the console's memory after each step, ``(A, T, M)``.
    """

    screens: NDArray[np.uint8]
    memories: NDArray[np.uint8]


def play_branches(game: str, config: ProbeConfig) -> Iterator[Branches]:
    """Reaches several states of a game with random play, and plays each action from each state."""
    env = RetroVectorEnv(
        game,
        action_set=ACTIONS.name,
        autoreset_mode=AutoresetMode.DISABLED,
        render_mode="rgb_array",
    )
    try:
        for number, step in enumerate(
            np.linspace(config.first, config.last, config.num_states).astype(int)
        ):
            rng = np.random.default_rng([config.seed, number])
            _wander(env, sticky_plan(ACTIONS)(rng, int(step)), config.settle)
            state = env.save_state()
            played = [_hold(env, state, action, config.hold) for action in range(len(ACTIONS))]
            yield Branches(
                screens=np.stack([screens for screens, _ in played]),
                memories=np.stack([memories for _, memories in played]),
            )
    finally:
        env.close()


def _wander(env: RetroVectorEnv, actions: NDArray[np.int64], settle: int) -> None:
    env.reset(seed=0)
    for action in [*actions.tolist(), *[_NOOP] * settle]:
        _, _, terminated, _, _ = env.step(np.array([action]))
        if terminated[0]:
            env.reset()


def _hold(
    env: RetroVectorEnv, state: list[bytes], action: int, steps: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns the screens and the console's memories while an action is held.

    If the game ends early, the last screen and memory are repeated.
    """
    env.load_state(state)
    screens: list[NDArray[np.uint8]] = []
    memories: list[NDArray[np.uint8]] = []
    ended = False
    while len(screens) < steps:
        if not ended:
            _, _, terminated, _, _ = env.step(np.array([action]))
            screen, memory, ended = _screen(env), env.memory(), bool(terminated[0])
        screens.append(screen)
        memories.append(memory)
    return np.stack(screens), np.stack(memories)


def _screen(env: RetroVectorEnv) -> NDArray[np.uint8]:
    pictures = env.render()
    assert pictures is not None
    return pictures[0]

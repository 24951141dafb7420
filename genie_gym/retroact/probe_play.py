"""Plays each action from the same moments of a game: what a probe looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym.actions import action_set
from genie_gym.collect.policies import sticky_plan
from genie_gym.envs.retro import RetroVectorEnv

__all__ = ["ACTIONS", "Branches", "ProbeConfig", "play_branches"]

ACTIONS = action_set("retroact-7")
_NOOP = ACTIONS.index("NOOP")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How a game is probed.

    Attributes:
        num_states: Moments that the actions are played from, each reached by random play.
        first: Steps of random play before the first moment.
        last: Steps of random play before the last one; a longer way costs time where the
            emulator has to play again what led to a state.
        settle: Steps without a button before each moment, so that jumps have ended.
        hold: Steps that each action is held for; a step is four emulated frames.
        seed: Of the random play.
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
                "num_states and hold must be positive, first, settle and seed not negative, "
                f"got {self}"
            )
        if self.last < self.first:
            raise ValueError(f"last must not be less than first, got {self.last} < {self.first}")


@dataclass(frozen=True, kw_only=True)
class Branches:
    """What each action led to from one moment.

    Attributes:
        step: Steps of play before the moment.
        before: The screen at that moment, (H, W, 3).
        screens: (A, T, H, W, 3): for each of `ACTIONS` the screen after each step.
        memories: (A, T, M): the console's memory likewise.
    """

    step: int
    before: NDArray[np.uint8]
    screens: NDArray[np.uint8]
    memories: NDArray[np.uint8]


def play_branches(game: str, config: ProbeConfig) -> Iterator[Branches]:
    """Plays a game at random to several moments, and each action from every one of them."""
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
            state, before = env.save_state(), _screen(env)
            played = [_hold(env, state, action, config.hold) for action in range(len(ACTIONS))]
            yield Branches(
                step=int(step) + config.settle,
                before=before,
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
    """Screens and memories while an action is held; the last ones again if the game ends."""
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

"""Play policies in a dream and in its game from the same starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.returns import play_out
from benchmarks.players import Player
from genie_gym.actions import ActionSet
from genie_gym.collect.plans import PLANS
from genie_gym.collect.policies import Planned

__all__ = ["REAL_ROWS", "Returns", "Starts", "find_starts", "play_dream", "play_real"]

REAL_ROWS = 2  # of the real env
PROMPT = 4  # real frames that dreams start from

Returns = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """S moments of real play.

    Attributes:
        states: The real env's saved states.
        frames: The frames up to there, uint8 ``(S, k, H, W, 3)``.
        actions: The actions between them, ``(S, k - 1)``.
    """

    states: list[bytes]
    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]


def find_starts(env: VectorEnv, num: int, seed: int) -> Starts:
    """Play at random in the real env, and save moments of it."""
    rng = np.random.default_rng(seed)
    actions: ActionSet = env.unwrapped.actions  # type: ignore[attr-defined]
    rows = env.num_envs
    states: list[bytes] = []
    frames: list[NDArray[np.uint8]] = []
    taken: list[list[int]] = []
    while len(states) < num:
        first, _ = env.reset(seed=int(rng.integers(2**31)))
        shown, acts = [first], []
        plan = Planned(PLANS["sticky"](actions), rows, 400)
        for row in range(rows):
            plan.begin(row, rng)
        ended = np.zeros(rows, np.bool_)
        for _ in range(int(rng.integers(PROMPT, 200))):
            act = plan.act(shown[-1])
            newest, _, terminated, truncated, _ = env.step(act)
            shown.append(newest)
            acts.append(act)
            ended = terminated | truncated
            if ended.any():
                break
        if len(shown) < PROMPT:
            continue
        for row in np.flatnonzero(~ended):
            states.append(env.unwrapped.save_state()[row])  # type: ignore[attr-defined]
            frames.append(np.stack([frame[row] for frame in shown[-PROMPT:]]))
            taken.append([int(act[row]) for act in acts[1 - PROMPT :]])
    return Starts(states=states[:num], frames=np.stack(frames[:num]), actions=np.array(taken[:num]))


def play_real(env: VectorEnv, starts: Starts, player: Player, seed: int, steps: int) -> Returns:
    """Return the rewards ``(steps, S)`` of the real game."""
    earned, num = [], len(starts.states)
    for first in range(0, num, env.num_envs):
        places = range(first, first + env.num_envs)
        states = [starts.states[min(place, num - 1)] for place in places]
        frames = env.unwrapped.load_state(states)  # type: ignore[attr-defined]
        seeds = [seed + place for place in places]
        policy = player.make(env.num_envs, steps)
        earned.append(play_out(env, frames, policy, seeds=seeds, max_steps=steps).rewards)
    return np.concatenate(earned, 1)[:, :num]


def play_dream(env: VectorEnv, starts: Starts, player: Player, seed: int, steps: int) -> Returns:
    """Return the rewards ``(steps, S)`` of the dream."""
    options = {"frames": starts.frames, "actions": starts.actions}
    frames, _ = env.reset(seed=seed, options=options)
    policy = player.make(env.num_envs, steps)
    seeds = range(seed, seed + env.num_envs)
    return play_out(env, frames, policy, seeds=seeds, max_steps=steps).rewards

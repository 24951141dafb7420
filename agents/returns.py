"""Measures the returns of policies in dreams and in the real game, from the same start states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from genie_gym.collect.policies import Policy
from genie_gym.envs.loaded_worlds import open_world, real_kwargs
from genie_gym.envs.make import make_rows
from genie_gym.evaluation.unseen import unseen_levels

__all__ = ["Played", "joined", "make_real", "play_out", "rows_of"]


@dataclass(frozen=True, kw_only=True)
class Played:
    """The results of one episode in each sub-env, called row.

    Attributes:
        rewards: Reward of each step and row, ``(T, rows)``; 0 after the row's episode has ended.
        lengths: Number of steps of each row.
        terminated: Whether the game ended the episode of each row.
        frames: All frames of the first row, uint8 ``(length + 1, H, W, 3)``.
    """

    rewards: NDArray[np.float64]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    frames: NDArray[np.uint8]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sum of the rewards of each row."""
        return self.rewards.sum(0)


def make_real(
    world: str | Path,
    num_envs: int,
    max_steps: int,
    mode: AutoresetMode = AutoresetMode.DISABLED,
    *,
    unseen: bool = False,
) -> VectorEnv:
    """Makes the real game for a world model, with the same env arguments as its training data.

    Args:
        world: Name or path of the world model.
        num_envs: Number of sub-envs, called rows.
        max_steps: Maximum steps per episode.
        mode: Autoreset mode of the env.
        unseen: Whether to play levels that the world model was not trained on.
    """
    card = open_world(world).card
    levels = unseen_levels(card) if unseen else {}
    return make_rows(
        card.env_id,
        num_envs,
        max_episode_steps=max_steps,
        autoreset_mode=mode,
        **{**real_kwargs(card), **levels},
    )


def play_out(
    env: VectorEnv,
    frames: NDArray[np.uint8],
    policy: Policy,
    *,
    seeds: Sequence[int],
    max_steps: int,
) -> Played:
    """Runs a policy in each row (sub-env) to the end of the row's episode.

    Args:
        env: A vector env with frame observations, in autoreset mode DISABLED. It must have just
            been reset, or have just loaded a state.
        frames: The env's newest frames.
        policy: The policy, made for the env's number of rows.
        seeds: The policy's seed for each row.
        max_steps: Maximum steps per episode.
    """
    for row, seed in enumerate(seeds):
        policy.begin(row, np.random.default_rng(seed))
    playing = np.ones(env.num_envs, np.bool_)
    over = np.zeros(env.num_envs, np.bool_)
    lengths = np.zeros(env.num_envs, np.int64)
    earned, shown = np.zeros((max_steps, env.num_envs)), [frames[0].copy()]
    for step in range(max_steps):
        frames, rewards, terminated, truncated, _ = env.step(policy.act(frames))
        earned[step] = rewards * playing
        lengths += playing
        if playing[0]:
            shown.append(frames[0].copy())
        ended = terminated | truncated
        over |= terminated & playing
        playing &= ~ended
        if not playing.any():
            break
        if ended.any():  # these rows continue with a new episode, which is not counted
            frames, _ = env.reset(options={"reset_mask": ended})
    return Played(rewards=earned, lengths=lengths, terminated=over, frames=np.stack(shown))


def rows_of(played: Played, rows: slice) -> Played:
    """Returns the episodes of some rows; `frames` is unchanged."""
    return replace(
        played,
        rewards=played.rewards[:, rows],
        lengths=played.lengths[rows],
        terminated=played.terminated[rows],
    )


def joined(parts: Sequence[Played]) -> Played:
    """Joins results along the axis of rows; `frames` is taken from the first result."""
    return replace(
        parts[0],
        rewards=np.concatenate([part.rewards for part in parts], 1),
        lengths=np.concatenate([part.lengths for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
    )

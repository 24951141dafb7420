"""Evaluates an agent: returns, places visited, and the frames of one episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.saved_policy import SavedPolicy
from genie_gym.coverage import Coverage
from genie_gym.wrappers.intrinsic import OWN_REWARD

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of one episode in each sub-env.

    Attributes:
        trained_return: Mean return, computed with the reward that the agent is trained on.
        env_return: Mean return, computed with the env's own reward.
        length: Mean number of steps.
        places: Number of distinct places seen; see `Coverage`.
        finished: Number of episodes that ended at the coin (CoinRun only, else 0).
        frames: All frames of the first sub-env's episode, uint8 ``(T + 1, H, W, 3)``.
    """

    trained_return: float
    env_return: float
    length: float
    places: int
    finished: int
    frames: NDArray[np.uint8]

    def numbers(self) -> dict[str, float]:
        """Returns all fields except the frames."""
        return {key: float(value) for key, value in vars(self).items() if key != "frames"}


def evaluate(env: VectorEnv, policy: SavedPolicy, *, seed: int, max_steps: int) -> Evaluation:
    """Runs a policy for one episode in each sub-env.

    Args:
        env: A vector env in autoreset mode SAME_STEP; it is reset first.
        policy: The policy to evaluate.
        seed: Seed for the env's episodes and for the policy's sampling.
        max_steps: Maximum steps per episode.
    """
    frames, infos = env.reset(seed=seed)
    coverage = Coverage(env.unwrapped)  # type: ignore[arg-type]
    coverage.see(frames, infos)
    for row in range(env.num_envs):
        policy.begin(row, np.random.default_rng([seed, row]))
    running = np.ones(env.num_envs, np.bool_)
    sums, lengths = np.zeros((2, env.num_envs)), np.zeros(env.num_envs)
    shown = [frames[0]]
    for _ in range(max_steps):
        frames, rewards, terminated, truncated, infos = env.step(policy.act(frames))
        coverage.see(frames, infos, running)
        sums += running * np.stack([rewards, infos.get(OWN_REWARD, rewards)])
        lengths += running
        ended = terminated | truncated
        if running[0]:
            shown.append(infos["final_obs"][0] if ended[0] else frames[0])
        running &= ~ended
        if not running.any():
            break
    return Evaluation(
        trained_return=float(sums[0].mean()),
        env_return=float(sums[1].mean()),
        length=float(lengths.mean()),
        places=len(coverage.places),
        finished=coverage.finished,
        frames=np.stack(shown),
    )

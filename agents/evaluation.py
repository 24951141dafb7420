"""How an agent plays: what it earns, how far it gets about, and what that looks like."""

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
    """One episode of each row.

    Attributes:
        trained_return: Mean sum of the reward that the agent is trained with.
        env_return: Mean sum of the env's own reward.
        length: Mean number of steps.
        places: Distinct places seen: see `Coverage`.
        finished: Of CoinRun, episodes that ended at the coin.
        frames: All frames of the first row's episode ``(T + 1, H, W, 3)``.
    """

    trained_return: float
    env_return: float
    length: float
    places: int
    finished: int
    frames: NDArray[np.uint8]

    def numbers(self) -> dict[str, float]:
        """All but the frames."""
        return {key: float(value) for key, value in vars(self).items() if key != "frames"}


def evaluate(env: VectorEnv, player: SavedPolicy, *, seed: int, max_steps: int) -> Evaluation:
    """Plays one episode in each row.

    Args:
        env: In autoreset mode SAME_STEP; it is reset.
        player: Who plays.
        seed: Of the env's episodes and of the player's draws.
        max_steps: Episodes are cut after so many steps.
    """
    frames, infos = env.reset(seed=seed)
    coverage = Coverage(env.unwrapped)  # type: ignore[arg-type]
    coverage.see(frames, infos)
    for row in range(env.num_envs):
        player.begin(row, np.random.default_rng([seed, row]))
    going = np.ones(env.num_envs, np.bool_)
    sums, lengths = np.zeros((2, env.num_envs)), np.zeros(env.num_envs)
    shown = [frames[0]]
    for _ in range(max_steps):
        frames, rewards, terminated, truncated, infos = env.step(player.act(frames))
        coverage.see(frames, infos)
        sums += going * np.stack([rewards, infos.get(OWN_REWARD, rewards)])
        lengths += going
        ended = terminated | truncated
        if going[0]:
            shown.append(infos["final_obs"][0] if ended[0] else frames[0])
        going &= ~ended
        if not going.any():
            break
    return Evaluation(
        trained_return=float(sums[0].mean()),
        env_return=float(sums[1].mean()),
        length=float(lengths.mean()),
        places=len(coverage.places),
        finished=coverage.finished,
        frames=np.stack(shown),
    )

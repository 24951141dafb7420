"""Intrinsic rewards for vector envs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from genie_gym.envs.arguments import masked_rows

__all__ = ["OWN_REWARD", "IntrinsicRewardVector", "Meter"]

OWN_REWARD = "env_reward"


class Meter(Protocol):
    """Follows the episodes of all rows (sub-envs) and scores the frame after each step.

    Attributes:
        name: Name of the measure, which is also the key of the scores in the infos.
    """

    name: str

    def begin(self, rows: NDArray[np.intp], frames: Any) -> None:
        """Starts new episodes in these rows, with their first frames ``(rows, H, W, 3)``."""

    def score(self, rows: NDArray[np.intp], actions: Any, frames: Any) -> NDArray[np.float64]:
        """Returns one score per row, given the actions ``(rows,)`` and the resulting frames."""


class IntrinsicRewardVector(VectorWrapper):
    """Replaces each reward with a meter's score for the frame after the step.

    ``info["env_reward"]`` is the env's own reward; the score before scaling is in ``info`` under
    the meter's name. All autoreset modes are supported. An episode's first frame is not scored.

    Args:
        env: A vector env whose observations are frames.
        meter: The meter that scores the frames.
        add: Whether to add the score to the env's own reward instead of replacing it.
        scale: Factor by which the scores are multiplied.
    """

    def __init__(self, env: VectorEnv, meter: Meter, *, add: bool = False, scale: float = 1.0):
        super().__init__(env)
        self.meter, self.add, self.scale = meter, add, scale
        autoreset = env.metadata.get("autoreset_mode")
        if not isinstance(autoreset, AutoresetMode):
            raise ValueError(
                "the env's metadata['autoreset_mode'] must be an AutoresetMode, got "
                f"{autoreset!r}: make the env with gym.make_vec(..., autoreset_mode=...)"
            )
        self._autoreset = autoreset
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes."""
        # Gymnasium's vector envs remove the mask from the options.
        rows = masked_rows((options or {}).get("reset_mask"), self.num_envs)
        frames, infos = self.env.reset(seed=seed, options=options)
        self._ended[rows] = False
        self.meter.begin(rows, frames[rows])
        return frames, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every row and scores the resulting frames."""
        frames, rewards, terminated, truncated, infos = self.env.step(actions)
        restarting = self._ended
        ended = np.asarray(terminated | truncated)
        live = np.flatnonzero(~restarting)
        same_step = self._autoreset is AutoresetMode.SAME_STEP
        reached = frames[live]
        if same_step:
            for place in np.flatnonzero(ended[live]):
                reached[place] = infos["final_obs"][live[place]]
        scores = np.zeros(self.num_envs)
        scores[live] = self.meter.score(live, np.asarray(actions)[live], reached)
        fresh = np.flatnonzero(ended if same_step else restarting)
        if len(fresh):
            self.meter.begin(fresh, frames[fresh])
        columns = {self.meter.name: scores, OWN_REWARD: np.array(rewards, np.float64)}
        _add_infos(infos, columns, ~restarting, ended if same_step else None)
        self._ended = np.zeros_like(ended) if same_step else ended.copy()
        own = columns[OWN_REWARD] if self.add else 0.0
        return frames, own + self.scale * scores, terminated, truncated, infos


def _add_infos(
    infos: dict[str, Any],
    columns: dict[str, NDArray[np.float64]],
    stepped: NDArray[np.bool_],
    finals: NDArray[np.bool_] | None,
) -> None:
    """Adds columns to the infos, or to the final infos for rows that ended and restarted."""
    for key, values in columns.items():
        infos[key], infos[f"_{key}"] = values, stepped.copy()
        if finals is not None and finals.any():
            infos["final_info"][key] = values.copy()
            infos["final_info"][f"_{key}"] = finals.copy()
            infos[f"_{key}"] &= ~finals

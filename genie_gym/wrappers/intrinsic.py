"""A reward of the agent's own making in place of the env's, in all rows at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

__all__ = ["OWN_REWARD", "IntrinsicRewardVector", "Meter"]

OWN_REWARD = "env_reward"


class Meter(Protocol):
    """Follows the episodes of some rows and scores each frame that a step led to.

    Attributes:
        name: What it measures: the key of its numbers in the infos.
    """

    name: str

    def begin(self, rows: NDArray[np.intp], frames: Any) -> None:
        """Tells the first frame ``(rows, H, W, 3)`` of new episodes in these rows."""

    def score(self, rows: NDArray[np.intp], actions: Any, frames: Any) -> NDArray[np.float64]:
        """One number for each of these rows: what they did ``(rows,)`` and what it led to."""


class IntrinsicRewardVector(VectorWrapper):
    """The reward becomes what a meter says of the frame that the step led to.

    The env's own reward stays in ``info["env_reward"]``, and the meter's number before scaling is
    in ``info`` by the meter's name. All autoreset modes are understood; where a row begins an
    episode nothing is scored.

    Args:
        env: A vector env that shows frames.
        meter: What scores them.
        add: Whether to add to the env's own reward in place of replacing it.
        scale: Multiplies the meter's numbers.
    """

    def __init__(self, env: VectorEnv, meter: Meter, *, add: bool = False, scale: float = 1.0):
        super().__init__(env)
        self.meter, self.add, self.scale = meter, add, scale
        autoreset = env.metadata.get("autoreset_mode")
        if not isinstance(autoreset, AutoresetMode):
            raise ValueError(
                "the env does not say in metadata['autoreset_mode'] how it begins new episodes, "
                f"got {autoreset!r}"
            )
        self._autoreset = autoreset
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins new episodes."""
        frames, infos = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        rows = np.flatnonzero(mask)
        self._ended[rows] = False
        self.meter.begin(rows, frames[rows])
        return frames, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every row and scores what it led to."""
        frames, rewards, terminated, truncated, infos = self.env.step(actions)
        beginning = self._ended
        ended = np.asarray(terminated | truncated)
        live = np.flatnonzero(~beginning)
        same_step = self._autoreset is AutoresetMode.SAME_STEP
        reached = frames[live]
        if same_step:
            for place in np.flatnonzero(ended[live]):
                reached[place] = infos["final_obs"][live[place]]
        scores = np.zeros(self.num_envs)
        scores[live] = self.meter.score(live, np.asarray(actions)[live], reached)
        fresh = np.flatnonzero(ended if same_step else beginning)
        if len(fresh):
            self.meter.begin(fresh, frames[fresh])
        columns = {self.meter.name: scores, OWN_REWARD: np.array(rewards, np.float64)}
        _add_infos(infos, columns, ~beginning, ended if same_step else None)
        self._ended = np.zeros_like(ended) if same_step else ended.copy()
        own = columns[OWN_REWARD] if self.add else 0.0
        return frames, own + self.scale * scores, terminated, truncated, infos


def _add_infos(
    infos: dict[str, Any],
    columns: dict[str, NDArray[np.float64]],
    stepped: NDArray[np.bool_],
    finals: NDArray[np.bool_] | None,
) -> None:
    """Adds info columns; of rows that ended and began again, to their final infos."""
    for key, values in columns.items():
        infos[key], infos[f"_{key}"] = values, stepped.copy()
        if finals is not None and finals.any():
            infos["final_info"][key] = values.copy()
            infos["final_info"][f"_{key}"] = finals.copy()
            infos[f"_{key}"] &= ~finals

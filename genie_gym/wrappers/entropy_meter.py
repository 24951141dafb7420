"""Measures how uncertain a world model is about an env's frames, for AutoExplore's reward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_gym.envs.loaded_worlds import open_world
from world_models.inference.parallel import one_thread
from world_models.inference.state import WorldState, merge_rows
from world_models.inference.uncertainty import GIVEN, PREDICTED, frame_uncertainty, joint_entropy

__all__ = ["MODES", "EntropyMeter"]

MODES = ("paper", "streaming", "surprise")
Rows = NDArray[np.intp]


class EntropyMeter:
    """Computes how uncertain a world model is about each row's current frame, at every step.

    All rows (sub-envs) share one forward pass. The modes are:

    * "paper": The model gets the frames from 4 and 3 steps ago and the actions since then. It
      predicts the 3 frames that follow in one pass. The score is the model's uncertainty about the
      last of them, the current frame. The score is 0 until an episode has 5 frames.
    * "streaming": The model gets all earlier frames of the episode. The score is the model's
      uncertainty about the current frame before it sees that frame.
    * "surprise": Like "streaming", but with the negative log-probability of each actual token in
      place of the entropy. The score has no upper bound.

    Args:
        num_rows: Number of rows.
        world: Name or path of the world model.
        mode: "paper", "streaming" or "surprise".
        num_actions: Number of actions in the env; must match the world model.
        frame_shape: Shape of the env's frames; must match the world model.
        device: Device to compute on; "auto" uses a GPU if there is one.
        dtype: Floating-point type to compute in; "auto" uses bfloat16 if it is faster.
    """

    def __init__(
        self,
        num_rows: int,
        world: str | Path,
        *,
        mode: str,
        num_actions: int,
        frame_shape: tuple[int, ...],
        device: str = "auto",
        dtype: str = "float32",
    ):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        self.world = open_world(world, device, dtype)
        size = self.world.card.frame_size
        expected = (len(self.world.actions), (size, size, 3))
        if (num_actions, tuple(frame_shape)) != expected:
            raise ValueError(
                f"the world model {self.world.card.name} has {expected[0]} actions "
                f"({self.world.card.action_set}) and frames of shape {expected[1]}, but the env "
                f"has {num_actions} actions and frames of shape {tuple(frame_shape)}: make the env "
                f"with action_set={self.world.card.action_set!r}, or use another world model"
            )
        self.mode = mode
        self.name = "dynamics_surprise" if mode == "surprise" else "dynamics_entropy"
        self._num_rows = num_rows
        self._state: WorldState | None = None
        past = GIVEN + PREDICTED
        device_ = self.world.device
        self._frames = torch.zeros(
            (num_rows, past, *frame_shape), dtype=torch.uint8, device=device_
        )
        self._actions = torch.zeros((num_rows, past - 1), dtype=torch.int64, device=device_)
        self._length = np.zeros(num_rows, np.int64)

    def begin(self, rows: Rows, frames: Any) -> None:
        """Starts new episodes in these rows, with their first frames ``(rows, H, W, 3)``."""
        if not len(rows):
            return
        index, shown = self._index(rows), self._tensor(frames)
        self._length[rows] = 1
        if self.mode == "paper":
            self._frames[index, -1] = shown
            return
        no_actions = torch.zeros((len(rows), 0), dtype=torch.int64, device=self.world.device)
        # Following real frames involves no sampling, so the seeds have no effect.
        seeds = torch.zeros(len(rows), dtype=torch.int64, device=self.world.device)
        with one_thread():
            started = self.world.model.start(shown[:, None], no_actions, seeds)
        fresh = replace(started, decoder=None)  # no frames need to be generated
        self._state = merge_rows(self._state, index, fresh, self._num_rows)

    def score(self, rows: Rows, actions: Any, frames: Any) -> NDArray[np.float64]:
        """Scores the next frame of each given row.

        Args:
            rows: The rows that took a step.
            actions: The actions that these rows took, ``(rows,)``.
            frames: The resulting frames, ``(rows, H, W, 3)``.

        Returns:
            Scores from 0 to 2 (unbounded in mode "surprise"), or 0 while an episode is too short.
        """
        if not len(rows):
            return np.zeros(0)
        taken = torch.as_tensor(actions, device=self.world.device).long()
        self._length[rows] += 1
        follow = self._score_jointly if self.mode == "paper" else self._score_streaming
        return follow(rows, taken, self._tensor(frames))

    def _score_jointly(self, rows: Rows, actions: Tensor, frames: Tensor) -> NDArray[np.float64]:
        index = self._index(rows)
        self._frames[index] = torch.cat((self._frames[index, 1:], frames[:, None]), 1)
        self._actions[index] = torch.cat((self._actions[index, 1:], actions[:, None]), 1)
        ready = self._length[rows] >= GIVEN + PREDICTED
        scores = np.zeros(len(rows))
        if ready.any():
            chosen = self._index(rows[ready])
            given = self._frames[chosen, :GIVEN]
            entropy = joint_entropy(self.world.model, given, self._actions[chosen])
            scores[ready] = self._number(entropy)
        return scores

    def _score_streaming(self, rows: Rows, actions: Tensor, frames: Tensor) -> NDArray[np.float64]:
        assert self._state is not None
        index = self._index(rows)
        # Rows that took no step are fed zeros, which does no harm: their episodes have ended.
        all_actions = torch.zeros(self._num_rows, dtype=torch.int64, device=self.world.device)
        all_frames = frames.new_zeros((self._num_rows, *frames.shape[1:]))
        all_actions[index], all_frames[index] = actions, frames
        with one_thread():
            self._state, seen = self.world.model.observe(self._state, all_actions, all_frames)
        expected = seen.surprise if self.mode == "surprise" else seen.entropy
        assert expected is not None
        return self._number(expected[index])

    def _number(self, entropy: Tensor) -> NDArray[np.float64]:
        num_codes = self.world.model.dynamics.space.num_codes
        return frame_uncertainty(entropy, num_codes).double().cpu().numpy()

    def _tensor(self, frames: Any) -> Tensor:
        return torch.as_tensor(frames).to(self.world.device)

    def _index(self, rows: Rows) -> Tensor:
        return torch.as_tensor(np.asarray(rows, np.int64), device=self.world.device)

"""How unsure a world is of what envs show: AutoExplore's number, row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_gym.envs.loaded_worlds import open_world
from world_models.inference.state import WorldState, merge_rows
from world_models.inference.uncertainty import GIVEN, PREDICTED, frame_uncertainty, joint_entropy

__all__ = ["MODES", "EntropyMeter"]

MODES = ("paper", "streaming", "surprise")
Rows = NDArray[np.intp]


class EntropyMeter:
    """Follows the episodes of some rows; each step is one pass of the world for all of them.

    In mode "paper" the world is given the frames 4 and 3 steps ago and all actions since, predicts
    the 3 frames after them in one pass, and the last of these, the present one, is scored. Until
    an episode has 5 frames the number is 0. In mode "streaming" the world has seen the episode
    since it began, and the present frame is scored as it was expected just before. Mode "surprise"
    is the same but for the number, which is how unlikely the frame was that came: for entropy, the
    negative logarithm of each token's probability, so it has no upper bound.

    Args:
        num_rows: Number of rows.
        world: Name or path of the world.
        mode: "paper", "streaming" or "surprise".
        num_actions: Actions of the env, which must be those of the world, as must
        frame_shape: the shape of its frames.
        device: As for a dream, like
        dtype: the type to compute in.
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
                f"the world {self.world.card.name} knows {expected[0]} actions "
                f"({self.world.card.action_set}) and frames {expected[1]}, the env has "
                f"{num_actions} and {tuple(frame_shape)}: make the env with "
                f"action_set={self.world.card.action_set!r}, or take another world"
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
        """Tells the first frame ``(rows, H, W, 3)`` of new episodes in these rows."""
        if not len(rows):
            return
        index, shown = self._index(rows), self._tensor(frames)
        self._length[rows] = 1
        if self.mode == "paper":
            self._frames[index, -1] = shown
            return
        no_actions = torch.zeros((len(rows), 0), dtype=torch.int64, device=self.world.device)
        # Nothing is drawn at random in following real frames, so the seeds are of no account.
        seeds = torch.zeros(len(rows), dtype=torch.int64, device=self.world.device)
        begun = self.world.model.start(shown[:, None], no_actions, seeds)
        fresh = replace(begun, decoder=None)  # nobody looks at the world's pixels
        self._state = merge_rows(self._state, index, fresh, self._num_rows)

    def score(self, rows: Rows, actions: Any, frames: Any) -> NDArray[np.float64]:
        """Scores the next frame of these rows.

        Args:
            rows: Those that took a step.
            actions: What they did ``(rows,)``.
            frames: What it led to ``(rows, H, W, 3)``.

        Returns:
            Numbers from 0 to 2, 0 where an episode has too few frames yet.
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
        # Rows that took no step follow along; they begin anew next.
        all_actions = torch.zeros(self._num_rows, dtype=torch.int64, device=self.world.device)
        all_frames = frames.new_zeros((self._num_rows, *frames.shape[1:]))
        all_actions[index], all_frames[index] = actions, frames
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

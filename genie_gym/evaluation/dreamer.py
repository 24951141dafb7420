"""One interface to the three modes in which a world model can generate frames.

Shapes: B windows, k prompt frames, n dreamed frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from world_models.inference.prediction import Prediction
from world_models.inference.state import WorldState
from world_models.inference.uncertainty import frame_uncertainty
from world_models.inference.world import WorldModel

__all__ = ["Dream", "Dreamer", "Mode"]

Mode: TypeAlias = Literal["stream", "autoregressive", "one_go"]

_FRAMES_PER_CALL = {"autoregressive": 2, "one_go": None}  # as in the paper's evaluation


@dataclass(frozen=True, kw_only=True)
class Dream:
    """The n frames generated after each of B prompts, on the CPU.

    Attributes:
        frames: uint8 ``(B, n, H, W, 3)``; the dream's ``actions[:, k - 1 + t]`` leads to frame t.
        uncertainty: Uncertainty of each frame, ``(B, n)``; see `frame_uncertainty`.
        reward: Expected reward of each action, ``(B, n)``; None unless the mode is "stream".
        termination: Probability that each action ended the episode, ``(B, n)``; None unless the
            mode is "stream".
    """

    frames: Tensor
    uncertainty: Tensor
    reward: Tensor | None = None
    termination: Tensor | None = None


class Dreamer:
    """Continues windows with generated frames, in batches.

    Args:
        model: The world model.
        mode: "stream" generates frames one by one, like the env. The other modes are those of the
            paper's evaluation: "autoregressive" samples two frames at once, "one_go" all n frames.
        device: The device that the model is on.
        batch_size: Windows per batch.
    """

    def __init__(
        self,
        model: WorldModel,
        mode: Mode = "stream",
        device: torch.device | str = "cpu",
        batch_size: int = 16,
    ):
        self.model = model
        self.mode = mode
        self.device = device
        self.batch_size = batch_size

    def dream(self, prompt: Tensor, actions: Tensor, seeds: Tensor) -> Dream:
        """Generate n frames after a prompt.

        Args:
            prompt: Real frames, uint8 ``(B, k, H, W, 3)``.
            actions: k - 1 actions between the prompt's frames, then n more; int64
                ``(B, k - 1 + n)``.
            seeds: One seed per window, int64 ``(B,)``.
        """
        parts: list[Dream] = self._batches(self._dream, prompt, actions, seeds)
        return Dream(
            frames=torch.cat([part.frames for part in parts]),
            uncertainty=torch.cat([part.uncertainty for part in parts]),
            reward=_joined([part.reward for part in parts]),
            termination=_joined([part.termination for part in parts]),
        )

    def last_replaced(
        self, prompt: Tensor, actions: Tensor, others: Tensor, seeds: Tensor
    ) -> Tensor:
        """Generate n frames, replacing for each frame only the action that leads to it.

        Args:
            prompt: See `dream`.
            actions: See `dream`.
            others: The replacements for the last n actions, int64 ``(B, n)``.
            seeds: See `dream`.
        """
        ask = self._stream_last_replaced if self.mode == "stream" else self._imagine_last_replaced
        return torch.cat(self._batches(ask, prompt, actions, others, seeds))

    def reconstruct(self, frames: Tensor, num_prompt: int) -> Tensor:
        """Encode and decode the frames ``(B, T, H, W, 3)``; see `Tokenizer.reconstruct`."""
        return torch.cat(self._batches(partial(self._reconstruct, num_prompt), frames))

    def start(self, prompt: Tensor, actions: Tensor, seeds: Tensor) -> WorldState:
        """Return the state after the real frames `prompt`; see `WorldModel.start`."""
        prompt, actions, seeds = self._here(prompt, actions, seeds)
        return self.model.start(prompt, actions, seeds)

    def step(self, state: WorldState, action: Tensor) -> tuple[WorldState, Prediction]:
        """Generate one more frame; see `WorldModel.step`."""
        return self.model.step(state, action.to(self.device))

    def follow(self, state: WorldState, actions: Tensor) -> tuple[WorldState, Tensor]:
        """Take the actions ``(B, n)``; return the last state and the frames ``(B, n, H, W, 3)``."""
        frames = []
        for action in actions.unbind(1):
            state, prediction = self.step(state, action)
            frames.append(prediction.frames.cpu())
        return state, torch.stack(frames, 1)

    # The modes ------------------------------------------------------------------

    def _dream(self, prompt: Tensor, actions: Tensor, seeds: Tensor) -> Dream:
        if self.mode == "stream":
            rollout = self.model.rollout(prompt, actions, seeds)
        else:
            rollout = self.model.imagine(prompt, actions, seeds, _FRAMES_PER_CALL[self.mode])
        num_codes = self.model.dynamics.space.num_codes
        return Dream(
            frames=rollout.frames.cpu(),
            uncertainty=frame_uncertainty(rollout.entropy, num_codes).cpu(),
            reward=None if rollout.reward is None else rollout.reward.float().cpu(),
            termination=None if rollout.termination is None else rollout.termination.float().cpu(),
        )

    def _stream_last_replaced(
        self, prompt: Tensor, actions: Tensor, others: Tensor, seeds: Tensor
    ) -> Tensor:
        between = prompt.shape[1] - 1
        state = self.model.start(prompt, actions[:, :between], seeds)
        frames = []
        for action, other in zip(actions[:, between:].unbind(1), others.unbind(1), strict=True):
            frames.append(self.model.step(state.clone(), other)[1].frames.cpu())
            state, _ = self.model.step(state, action)
        return torch.stack(frames, 1)

    def _imagine_last_replaced(
        self, prompt: Tensor, actions: Tensor, others: Tensor, seeds: Tensor
    ) -> Tensor:
        """Sample all n frames for each replacement, as in the dream that they are compared with."""
        between, frames = prompt.shape[1] - 1, []
        for t in range(others.shape[1]):
            changed = actions.clone()
            changed[:, between + t] = others[:, t]
            frames.append(self._dream(prompt, changed, seeds).frames[:, t])
        return torch.stack(frames, 1)

    @torch.no_grad()
    def _reconstruct(self, num_prompt: int, frames: Tensor) -> Tensor:
        return self.model.tokenizer.reconstruct(frames, num_prompt).cpu()

    def _batches(self, ask: Callable, *tensors: Tensor) -> list:
        parts = zip(*(tensor.split(self.batch_size) for tensor in tensors), strict=True)
        return [ask(*self._here(*part)) for part in parts]

    def _here(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.device) for tensor in tensors]


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None

"""The paper's objective: mask most of the past, and predict the next frame at masked positions.

The output at a position is the token of the *next* frame at that position. Only positions whose
current token is masked enter the loss. In a dream, one pass over the last frame and the action
taken in it predicts the next frame: sampling passes do not see each other's tokens.

Shapes: B batch, T frames, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from world_models.model.kv_cache import KVCache
from world_models.model.losses import DynamicsLossConfig, Metrics, frame_loss
from world_models.model.masking import bernoulli_masks
from world_models.model.token_space import Clip
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["FirstFrame", "Paper", "PaperFrame"]


class Paper:
    """The paper's objective; the module's docstring describes it."""

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """See `Dynamics.loss`."""
        present = batch["tokens"][:, :-1]
        masked = bernoulli_masks(present, RowNoise.of(batch))
        hidden = present.masked_fill(masked, dynamics.space.mask_token)
        before_last = dynamics.transformer.all_but_last(dynamics.embed(hidden, batch["actions"]))
        states = dynamics.transformer.last_layer(before_last)
        return frame_loss(dynamics, batch, before_last, states, masked, config)

    def outcome_states(self, dynamics: Dynamics, clip: Clip) -> Tensor:
        """See `TwoStream.outcome_states`."""
        return dynamics.transformer.all_but_last(dynamics.embed(clip.tokens[:, :-1], clip.actions))

    def joint_logits(self, dynamics: Dynamics, clip: Clip, num_ahead: int) -> Tensor:
        """See `TwoStream.joint_logits`."""
        x = dynamics.transformer.last_layer(self.outcome_states(dynamics, clip))
        return dynamics.to_logits(x[:, -num_ahead:])

    def first_frame(self, dynamics: Dynamics, cache: KVCache, frames: Tensor) -> FirstFrame:
        """See `TwoStream.first_frame`."""
        return FirstFrame(cache)

    def next_frame(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ) -> PaperFrame:
        """See `TwoStream.next_frame`."""
        return PaperFrame(dynamics, cache, tokens, actions, frames)


class FirstFrame:
    """The first frame of a sequence, which is never predicted; see `TwoStreamFrame`."""

    def __init__(self, cache: KVCache):
        self._cache = cache

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """See `TwoStreamFrame.logits`."""
        raise ValueError(
            "this dynamics model cannot predict the first frame; start from a real frame"
        )

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """See `TwoStreamFrame.commit`.

        The past stays empty; the reward and the termination probability are 0. The next pass adds
        the frame to the past, together with the action taken in it.
        """
        nothing = torch.zeros(len(tokens), device=tokens.device)
        return self._cache, nothing, nothing


class PaperFrame:
    """The next frame of B sequences; see `TwoStreamFrame`."""

    def __init__(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ):
        inputs = dynamics.inputs(cache, actions, frames)
        self._logits, entry, self._reward, self._termination = dynamics.predict(tokens, inputs)
        self._cache = cache.write(entry)

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """See `TwoStreamFrame.logits`."""
        return self._logits if len(rows) == len(self._logits) else self._logits[rows]

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """See `TwoStreamFrame.commit`."""
        return self._cache, self._reward, self._termination

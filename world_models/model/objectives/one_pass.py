"""The one-pass objective: a single pass over the last frame and an action predicts the next frame.

Nothing is masked, in training or in a dream. Each frame takes one pass, which also makes the frame
part of the past: several times as fast as MaskGIT sampling. The price is that all tokens of a frame
are drawn independently, given the past.

Shapes: B batch, T frames, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from world_models.model.kv_cache import KVCache
from world_models.model.losses import (
    DynamicsLossConfig,
    Metrics,
    corrupted_past,
    outcome_loss,
    token_loss,
)
from world_models.model.objectives.paper import FirstFrame, PaperFrame
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["OnePass"]


class OnePass:
    """See the module."""

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """See `Dynamics.loss`."""
        space, present, target = dynamics.space, batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        past, previous = corrupted_past(space, batch, config, RowNoise.of(batch))
        before_last = self.outcome_states(dynamics, past, batch["actions"], previous)
        states = dynamics.transformer.last_layer(before_last)
        changed, scored = space.changed(present, target), torch.ones_like(target, dtype=torch.bool)
        loss, metrics = token_loss(dynamics, states, target, changed, scored, config)
        if "rewards" in batch:
            outcome, more = outcome_loss(dynamics, before_last, batch, config)
            loss, metrics = loss + outcome, metrics | more
        return loss, {"loss": loss.detach(), **metrics}

    def outcome_states(
        self, dynamics: Dynamics, tokens: Tensor, actions: Tensor, previous_frames: Tensor | None
    ) -> Tensor:
        """See `TwoStream.outcome_states`."""
        # The frame before frame t + 1 is frame t itself, whose tokens are there.
        shown = None if previous_frames is None else previous_frames[:, 1:]
        x = dynamics.embed(tokens[:, :-1], actions, dynamics.frame_features(shown))
        return dynamics.transformer.all_but_last(x)

    def joint_logits(
        self,
        dynamics: Dynamics,
        tokens: Tensor,
        actions: Tensor,
        previous_frames: Tensor | None,
        num_ahead: int,
    ) -> Tensor:
        """See `TwoStream.joint_logits`. Only one frame can be predicted at a time."""
        if num_ahead != 1:
            raise ValueError(
                "a one-pass dynamics predicts one frame at a time, got "
                f"frames_per_call {num_ahead}; pass frames_per_call=1"
            )
        x = self.outcome_states(dynamics, tokens, actions, previous_frames)
        return dynamics.to_logits(dynamics.transformer.last_layer(x)[:, -1:])

    def first_frame(self, dynamics: Dynamics, cache: KVCache, frames: Tensor) -> FirstFrame:
        """See `TwoStream.first_frame`."""
        return FirstFrame(cache)

    def next_frame(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ) -> PaperFrame:
        """See `TwoStream.next_frame`."""
        return PaperFrame(dynamics, cache, tokens, actions, frames)

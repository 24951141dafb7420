"""The one-pass objective: a single pass over the last frame and an action predicts the next frame.

Nothing is masked, in training or in a dream. Each step takes one pass, which adds the last frame to
the past and predicts the next frame. This is several times as fast as MaskGIT sampling, but all
tokens of a frame are drawn independently of each other, given the past.

Shapes: B batch, T frames, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from world_models.model.losses import DynamicsLossConfig, Metrics, corrupted_past, frame_loss
from world_models.model.objectives.paper import Paper
from world_models.model.token_space import Clip
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["OnePass"]


class OnePass(Paper):
    """The one-pass objective; the module's docstring describes it.

    As in the paper's objective, sampling does not see any tokens of the frame that it samples.
    """

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """See `Dynamics.loss`."""
        past = corrupted_past(dynamics.space, batch, config, RowNoise.of(batch))
        before_last = self.outcome_states(dynamics, past)
        states = dynamics.transformer.last_layer(before_last)
        scored = torch.ones_like(batch["tokens"][:, 1:], dtype=torch.bool)
        return frame_loss(dynamics, batch, before_last, states, scored, config)

    def outcome_states(self, dynamics: Dynamics, clip: Clip) -> Tensor:
        """See `TwoStream.outcome_states`."""
        # The input at t includes the pixels of frame t, because that is the frame before t + 1.
        shown = None if clip.previous_frames is None else clip.previous_frames[:, 1:]
        features = dynamics.frame_features(shown)
        return dynamics.transformer.all_but_last(
            dynamics.embed(clip.tokens[:, :-1], clip.actions, features)
        )

    def joint_logits(self, dynamics: Dynamics, clip: Clip, num_ahead: int) -> Tensor:
        """See `TwoStream.joint_logits`. Only one frame can be predicted at a time."""
        if num_ahead != 1 or (clip.tokens[:, :-1] == dynamics.space.mask_token).any():
            raise ValueError(
                "a one-pass dynamics model cannot predict several frames at once, only one frame "
                'at a time: pass frames_per_call=1 to imagine(), evaluate dreams in mode "stream", '
                'or compute AutoExplore\'s reward in mode "streaming"'
            )
        return super().joint_logits(dynamics, clip, num_ahead)

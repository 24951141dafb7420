"""The two-stream objective: predict a partly masked frame from the clean past, as sampling does.

One pass trains all frames at once. It runs every frame twice: clean, as the past of later frames,
and partly masked, as the frame to predict. A masked frame attends to the clean frames before it and
to itself.

In a dream, each sampling pass sees the tokens that earlier passes have unmasked. A final pass over
the finished frame adds it to the past.

Shapes: B batch, T frames, N tokens per frame, D width, K codes, R selected rows (batch items).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from world_models.model.kv_cache import KVCache
from world_models.model.losses import DynamicsLossConfig, Metrics, corrupted_past, frame_loss
from world_models.model.masking import schedule_masks
from world_models.model.token_space import NO_ACTION, Clip
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["TwoStream", "TwoStreamFrame"]


class TwoStream:
    """The two-stream objective; the module's docstring describes it."""

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """See `Dynamics.loss`."""
        target, noise = batch["tokens"][:, 1:], RowNoise.of(batch)
        masked = schedule_masks(target, config.mask_steps, noise)
        hidden = target.masked_fill(masked, dynamics.space.mask_token)
        past = corrupted_past(dynamics.space, batch, config, noise)
        clean, states = self.states(dynamics, past, hidden, config.LEARNED_SHARE)
        return frame_loss(dynamics, batch, clean[:, 1:], states, masked, config)

    def states(
        self, dynamics: Dynamics, clip: Clip, masked: Tensor, learned_share: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Compute the hidden states of all frames in one pass.

        Args:
            dynamics: The model.
            clip: The clean frames.
            masked: Tokens of all frames except the first, partly masked, ``(B, T - 1, N)``.
            learned_share: See `DynamicsLossConfig.LEARNED_SHARE`.

        Returns:
            The input to the last layer of the transformer for clean frames, ``(B, T, N, D)``, from
            which rewards and terminations are predicted; and the output of this layer for masked
            frames, ``(B, T - 1, N, D)``, from which tokens are predicted.
        """
        features = dynamics.frame_features(clip.previous_frames)
        if features is not None:
            features = torch.cat((features, features[:, 1:]), 1)
        actions = torch.cat((clip.leading_actions, clip.actions), 1)
        x = dynamics.embed(torch.cat((clip.tokens, masked), 1), actions, features)
        transformer, num_frames = dynamics.transformer, clip.tokens.shape[1]
        num_frozen = round((1 - learned_share) * (len(transformer.layers) - 1))
        x = transformer.all_but_last(x, num_frames, num_frozen)
        return x[:, :num_frames], transformer.last_layer(x, num_frames)

    def outcome_states(self, dynamics: Dynamics, clip: Clip) -> Tensor:
        """Compute the outcome head's input, as in a dream, for all frames except the first.

        The result is ``(B, T - 1, N, D)``.
        """
        return self._all_but_last(dynamics, clip)[:, 1:]

    def joint_logits(self, dynamics: Dynamics, clip: Clip, num_ahead: int) -> Tensor:
        """Predict the last `num_ahead` frames in one pass over the whole clip.

        The paper's evaluation does this. In `clip`, some or all tokens of these frames are masked.
        Returns logits ``(B, num_ahead, N, K)``.
        """
        x = dynamics.transformer.last_layer(self._all_but_last(dynamics, clip))
        return dynamics.to_logits(x[:, -num_ahead:])

    def first_frame(self, dynamics: Dynamics, cache: KVCache, frames: Tensor) -> TwoStreamFrame:
        """Begin the first frame, with an empty cache; `frames` is the first frame itself."""
        return TwoStreamFrame(dynamics, cache, torch.full_like(cache.length, NO_ACTION), frames)

    def next_frame(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ) -> TwoStreamFrame:
        """Begin the next frame.

        Args:
            dynamics: The model.
            cache: The KV cache of past frames; changed in place.
            tokens: Tokens of the last frame, ``(B, N)``.
            actions: Actions that lead from the last frame to the next, ``(B,)``.
            frames: The last frame, uint8 ``(B, H, W, C)``.
        """
        return TwoStreamFrame(dynamics, cache, actions, frames)

    def _all_but_last(self, dynamics: Dynamics, clip: Clip) -> Tensor:
        features = dynamics.frame_features(clip.previous_frames)
        x = dynamics.embed(clip.tokens, clip.leading_actions, features)
        return dynamics.transformer.all_but_last(x)


class TwoStreamFrame:
    """The next frame of B sequences while it is sampled. Its past and its action are fixed."""

    def __init__(self, dynamics: Dynamics, cache: KVCache, actions: Tensor, frames: Tensor):
        self._dynamics, self._cache = dynamics, cache
        self.inputs = dynamics.inputs(cache, actions, frames)

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Predict logits ``(R, N, K)`` for rows ``(R,)`` from partly masked tokens ``(R, N)``."""
        return self._dynamics.step(tokens, self.inputs.rows(rows))[0]

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """Add the frame to the past, now that its tokens ``(B, N)`` are known.

        Returns:
            The past, the expected reward ``(B,)`` and the termination probability ``(B,)``.
        """
        entry, reward, termination = self._dynamics.finish(tokens, self.inputs)
        return self._cache.write(entry), reward, termination

"""The paper's objective: mask most of the whole past, predict the next frame where it is masked.

The output at a position is the token of the *next* frame there, and only positions whose present
token is masked are scored. In a dream, one pass over the last frame and its action predicts the
next frame: sampling passes do not see each other's tokens.

Shapes: B batch, T frames, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from world_models.model.kv_cache import KVCache
from world_models.model.losses import DynamicsLossConfig, Metrics, outcome_loss, token_loss
from world_models.model.masking import bernoulli_masks
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["FirstFrame", "Paper", "PaperFrame"]


class Paper:
    """See the module."""

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """See `Dynamics.loss`."""
        present, target = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        masked = bernoulli_masks(present, RowNoise.of(batch))
        hidden = present.masked_fill(masked, dynamics.space.mask_token)
        before_last = self._all_but_last(dynamics, hidden, batch["actions"])
        states = dynamics.transformer.last_layer(before_last)
        changed = dynamics.space.changed(present, target)
        loss, metrics = token_loss(dynamics, states, target, changed, masked, config)
        if "rewards" in batch:
            outcome, more = outcome_loss(dynamics, before_last, batch, config)
            loss, metrics = loss + outcome, metrics | more
        return loss, {"loss": loss.detach(), **metrics}

    def outcome_states(
        self, dynamics: Dynamics, tokens: Tensor, actions: Tensor, previous_frames: Tensor | None
    ) -> Tensor:
        """See `TwoStream.outcome_states`."""
        return self._all_but_last(dynamics, tokens[:, :-1], actions)

    def joint_logits(
        self,
        dynamics: Dynamics,
        tokens: Tensor,
        actions: Tensor,
        previous_frames: Tensor | None,
        num_ahead: int,
    ) -> Tensor:
        """See `TwoStream.joint_logits`."""
        x = dynamics.transformer(dynamics.embed(tokens[:, :-1], actions))
        return dynamics.to_logits(x[:, -num_ahead:])

    def first_frame(self, dynamics: Dynamics, cache: KVCache, frames: Tensor) -> FirstFrame:
        """See `TwoStream.first_frame`."""
        return FirstFrame(cache)

    def next_frame(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ) -> PaperFrame:
        """See `TwoStream.next_frame`."""
        return PaperFrame(dynamics, cache, tokens, actions, frames)

    def _all_but_last(self, dynamics: Dynamics, tokens: Tensor, actions: Tensor) -> Tensor:
        return dynamics.transformer.all_but_last(dynamics.embed(tokens, actions))


class FirstFrame:
    """The first frame of rows, which nothing predicts; see `TwoStreamFrame`."""

    def __init__(self, cache: KVCache):
        self._cache = cache

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """See `TwoStreamFrame.logits`."""
        raise ValueError("this dynamics cannot predict the first frame; start from a real frame")

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """See `TwoStreamFrame.commit`. The past stays empty, and the reward is 0.

        The frame becomes part of the past together with the action taken there.
        """
        nothing = torch.zeros(len(tokens), device=tokens.device)
        return self._cache, nothing, nothing


class PaperFrame:
    """The next frame of B rows; see `TwoStreamFrame`."""

    def __init__(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ):
        inputs = dynamics.inputs(cache, actions, frames)
        self._logits, entry, self._reward, self._termination = dynamics.predict(tokens, inputs)
        self._cache = cache.write(entry)

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """See `TwoStreamFrame.logits`."""
        return self._logits[rows]

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """See `TwoStreamFrame.commit`."""
        return self._cache, self._reward, self._termination

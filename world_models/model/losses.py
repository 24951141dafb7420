"""The loss of a dynamics model.

The loss for tokens is TDCE (token-distance cross-entropy). The outcome loss is for rewards and
terminations.

Shapes: B batch, T frames, N tokens per frame, D width, K codes, M masked tokens in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from world_models.compiler import uncompiled
from world_models.kernels.token_distance import token_distance_cross_entropy
from world_models.model.masking import replace_tokens
from world_models.model.token_space import Clip, TokenSpace
from world_models.noise import RowNoise

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["DynamicsLossConfig", "Metrics", "corrupted_past", "frame_loss", "outcome_loss"]

Metrics = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class DynamicsLossConfig:
    """Settings for the loss of a dynamics model.

    Attributes:
        changed_weight: Extra weight for tokens that change from one frame to the next; 0 for none.
        event_weight: Weight in the outcome loss for steps with a reward or a termination, which are
            rare. With a larger weight, the model learns these events sooner, but overestimates
            their probability.
        context_noise: Maximum fraction of past tokens, in [0, 1), that training replaces at random,
            so that dreams recover from their own mistakes.
        mask_steps: Number of passes in the sampling schedule from which training masks are drawn
            (only for "two_stream").
    """

    TDCE_WEIGHT: ClassVar[float] = 1.0  # weight of the token distance; cross-entropy has weight 1
    OUTCOME_WEIGHT: ClassVar[float] = 1.0  # weight of the reward loss and of the termination loss
    # Fraction of the layers, counted from the last, in which gradients flow into clean frames
    # ("two_stream"). With 1, training would take a tenth longer and gain nothing. With 0, only the
    # token loss would shape the features from which rewards and terminations are predicted.
    LEARNED_SHARE: ClassVar[float] = 0.5

    changed_weight: float = 0.0
    event_weight: float = 1.0
    context_noise: float = 0.0
    mask_steps: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.context_noise < 1:
            raise ValueError(f"context_noise must lie in [0, 1), got {self.context_noise}")
        if self.mask_steps < 1:
            raise ValueError(f"mask_steps must be at least 1, got {self.mask_steps}")


def corrupted_past(
    space: TokenSpace, batch: dict[str, Tensor], config: DynamicsLossConfig, noise: RowNoise
) -> Clip:
    """Return the past as a dream sees it, with some wrong tokens.

    `Dynamics.loss` documents `batch`.
    """
    tokens = batch.get("input_tokens", batch["tokens"])
    tokens = replace_tokens(tokens, config.context_noise, space.num_codes, noise)
    previous = batch.get("previous_frames")
    if previous is None or space.neutral is None:
        return Clip(tokens, batch["actions"], previous)
    # A dream does not know what changed before its first frame, so training must not know it
    # either. Otherwise a dream would infer from the neutral tokens of its first frame that nothing
    # moves.
    tokens = torch.cat((torch.full_like(tokens[:, :1], space.neutral), tokens[:, 1:]), 1)
    return Clip(tokens, batch["actions"], torch.cat((previous[:, 1:2], previous[:, 1:]), 1))


def frame_loss(
    dynamics: Dynamics,
    batch: dict[str, Tensor],
    before_last: Tensor,
    states: Tensor,
    masked: Tensor,
    config: DynamicsLossConfig,
) -> tuple[Tensor, Metrics]:
    """Compute the loss for all frames of a clip except the first.

    The loss covers tokens and, if the batch has them, rewards and terminations.

    Args:
        dynamics: The model.
        batch: See `Dynamics.loss`.
        before_last: The input to the last layer of the dynamics model's transformer,
            ``(B, T - 1, N, D)``. Rewards and terminations are predicted from this input.
        states: The output of this layer, from which tokens are predicted, ``(B, T - 1, N, D)``.
        masked: Whether each token enters the loss, bool ``(B, T - 1, N)``.
        config: The settings.
    """
    loss, metrics = token_loss(dynamics, states, batch["tokens"], masked, config)
    if "rewards" in batch:
        outcome, more = outcome_loss(dynamics, before_last, batch, config)
        loss, metrics = loss + outcome, metrics | more
    return loss, {"loss": loss.detach(), **metrics}


@uncompiled  # the number of masked tokens differs from batch to batch
def token_loss(
    dynamics: Dynamics, states: Tensor, tokens: Tensor, masked: Tensor, config: DynamicsLossConfig
) -> tuple[Tensor, Metrics]:
    """Average the loss over each clip's masked tokens, then over clips; see `frame_loss`."""
    target, changed = tokens[:, 1:], dynamics.space.changed(tokens[:, :-1], tokens[:, 1:])
    num_rows, row = len(masked), masked.nonzero()[:, 0]  # (M,)
    target, changed = target[masked], changed[masked]
    logits = dynamics.to_logits(states[masked])  # (M, K)
    cost, cross_entropy = token_distance_cross_entropy(
        logits, target, dynamics.codes, config.TDCE_WEIGHT
    )
    weight = 1 + config.changed_weight * changed
    logits = logits.detach()
    correct = (logits.gather(1, target[:, None]).squeeze(1) == logits.amax(-1)).float()
    share = weight / weight.new_zeros(num_rows).index_add(0, row, weight)[row]
    loss = (cost * share).sum() / num_rows
    return loss, {
        "token_loss": loss.detach(),
        "cross_entropy": cross_entropy.mean(),
        "perplexity": cross_entropy.mean().exp(),
        "accuracy": correct.mean(),
        "changed_accuracy": (correct * changed).sum() / changed.sum().clamp(min=1),
    }


def outcome_loss(
    dynamics: Dynamics, states: Tensor, batch: dict[str, Tensor], config: DynamicsLossConfig
) -> tuple[Tensor, Metrics]:
    """Compute the loss for rewards and terminations.

    `states` is the input to the last layer of the dynamics model's transformer,
    ``(B, T - 1, N, D)``.
    """
    reward, termination = dynamics.outcome.losses(
        states, batch["rewards"], batch["terminated"], config.event_weight
    )
    loss = config.OUTCOME_WEIGHT * reward + config.OUTCOME_WEIGHT * termination
    return loss, {"reward_loss": reward.detach(), "termination_loss": termination.detach()}

"""The outcome head, which predicts rewards and terminations.

Shapes: B batch, T frames, N tokens per frame, D width, R reward bins.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.model.linear import row_by_row

__all__ = ["OutcomeHead"]

NUM_POOLS = 4
BINS_PER_UNIT = 2  # in symlog space
LARGEST_SYMLOG = 8  # rewards beyond +-2980 are clipped


class OutcomeHead(nn.Module):
    """Predicts the reward as a distribution over fixed values, and the termination probability.

    The head takes the input to the last layer of the dynamics model's transformer, so that training
    need not run this layer on past frames. Tokens are pooled by attention, not averaged, because a
    single token often decides the outcome.
    """

    values: Tensor

    def __init__(self, dim: int):
        super().__init__()
        ends = LARGEST_SYMLOG * BINS_PER_UNIT
        steps = torch.arange(-ends, ends + 1, dtype=torch.float32) / BINS_PER_UNIT
        self.register_buffer("values", steps.sign() * steps.abs().expm1(), persistent=False)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.pool = nn.Linear(dim, NUM_POOLS)
        last = nn.Linear(dim, len(steps) + 1)
        nn.init.zeros_(last.weight)  # untrained: reward 0, termination probability 0.5
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(NUM_POOLS * dim, dim), nn.GELU(), last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(..., N, D)`` to reward logits ``(..., R)`` and termination logits ``(...)``."""
        out = self.mlp(self._pooled(x)).float()
        return out[..., :-1], out[..., -1]

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected reward and termination probability, both ``(B,)``.

        `x` is ``(B, N, D)``. The result for a batch item is bit-identical whatever the other items
        are.
        """
        first, activation, last = self.mlp
        hidden = activation(row_by_row(first, self._pooled(x)))  # type: ignore[arg-type]
        out = row_by_row(last, hidden).float()  # type: ignore[arg-type]
        reward = (out[:, :-1].softmax(-1) * self.values.float()).sum(-1)
        return reward, out[:, -1].sigmoid()

    def losses(
        self, x: Tensor, rewards: Tensor, terminated: Tensor, event_weight: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return the mean reward loss and the mean termination loss.

        `x` is ``(..., N, D)``; the targets `rewards` and `terminated` are ``(...)``. Steps with a
        reward have the weight `event_weight` in the reward loss, and terminating steps have it in
        the termination loss. All other steps have weight 1.
        """
        reward, termination = self(x)
        ended = terminated.float()
        reward_loss = -(self.two_hot(rewards) * reward.log_softmax(-1)).sum(-1)
        termination_loss = F.binary_cross_entropy_with_logits(termination, ended, reduction="none")
        extra = event_weight - 1
        reward_loss = reward_loss * (1 + extra * (rewards != 0))
        return reward_loss.mean(), (termination_loss * (1 + extra * ended)).mean()

    def two_hot(self, rewards: Tensor) -> Tensor:
        """Return weights ``(..., R)`` for the two bin values nearest to each reward.

        The weighted mean of these two values is the reward. All other bins have weight 0.
        """
        values = self.values.float()
        rewards = rewards.float().clamp(values[0], values[-1])
        upper = torch.searchsorted(values, rewards).clamp(min=1)
        low, high = values[upper - 1], values[upper]
        share = ((rewards - low) / (high - low))[..., None]
        size = len(values)
        return F.one_hot(upper, size) * share + F.one_hot(upper - 1, size) * (1 - share)

    def _pooled(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return (self.pool(x).softmax(-2).mT @ x).flatten(-2)  # (..., pools * D)

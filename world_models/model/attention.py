"""Attention with normalised queries and keys, and the position biases for its logits.

Shapes: B batch, F frames, N tokens per frame, D width, H heads, E head dimension,
Q queries, S keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.kernels.qk_norm import QKNorm, qk_norm

__all__ = ["Attention", "SpatialBias", "alibi_slopes", "temporal_bias"]

QK_SCALE = 8.0  # attention logits are cosine similarities times this


class Attention(nn.Module):
    """Multi-head attention whose logits are scaled cosine similarities (QK-norm).

    Projecting, attending and merging the heads are separate methods, because the tokens that attend
    to each other differ between space and time, and between training and streaming.

    Args:
        dim: Width D.
        num_heads: Number of attention heads H.
        head_dim: Head dimension E.
        norm_all: Compute not only queries but also keys and values from the normalised tokens.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int, norm_all: bool = True):
        super().__init__()
        self.num_heads, self.norm_all = num_heads, norm_all
        self.norm = nn.LayerNorm(dim, bias=False)
        inner = num_heads * head_dim
        if norm_all:
            self.qkv = nn.Linear(dim, 3 * inner, bias=False)
        else:
            self.q = nn.Linear(dim, inner, bias=False)
            self.kv = nn.Linear(dim, 2 * inner, bias=False)
        self.gain = nn.Parameter(torch.ones(2, 1, head_dim))
        self.out = nn.Linear(num_heads * head_dim, dim, bias=False)

    def project(
        self, x: Tensor, order: tuple[int, ...], normalise: QKNorm = qk_norm
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens ``(..., D)`` to queries, keys and values.

        Args:
            x: The tokens, ``(..., D)``.
            order: The order in which to return the axes of ``(..., 3, H, E)``; the axis of size 3
                comes first. Matrix multiplications and sums are fast if the axes that they run over
                come last and are contiguous.
            normalise: `qk_norm`, or `qk_norm_plain` if no gradients are needed.
        """
        normal = self.norm(x)
        qkv = self.qkv(normal) if self.norm_all else torch.cat((self.q(normal), self.kv(x)), -1)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        gain = (self.gain[0] * self.gain[1] * QK_SCALE).to(qkv.dtype)  # only the product matters
        return normalise(qkv, gain, order)

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attend from queries ``(..., H, Q, E)`` to keys and values ``(..., H, S, E)``.

        `bias` is added to the logits and broadcasts to ``(..., H, Q, S)``.
        """
        bias = bias.to(q.dtype)
        if q.device.type == "cpu":  # several times as fast as torch's SDPA kernel
            return (q @ k.mT + bias).softmax(-1) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    @staticmethod
    def attend_past(
        q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor, bias: Tensor
    ) -> Tensor:
        """Attend from each token of a new frame to itself and to its position in W past frames.

        The new frame's queries, keys and values have the shape ``(..., H, E)``, the past frames'
        keys and values ``(..., H, W, E)``. The bias for past frames broadcasts to ``(..., H, W)``.
        """
        now = (q * k).sum(-1, keepdim=True)
        past = (q.unsqueeze(-2) @ past_k.mT).squeeze(-2) + bias
        weight = torch.cat((past, now), -1).softmax(-1)  # (..., H, W + 1)
        return (weight[..., None, :-1] @ past_v).squeeze(-2) + weight[..., -1:] * v


class SpatialBias(nn.Module):
    """A continuous position bias: an MLP maps the offset of two tokens to a bias for each head."""

    offsets: Tensor
    index: Tensor

    def __init__(self, grid: tuple[int, int], num_heads: int, hidden: int):
        super().__init__()
        h, w = grid
        self.mlp = nn.Sequential(
            nn.Linear(2, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, num_heads),
        )
        steps = torch.cartesian_prod(
            torch.arange(1 - h, h, dtype=torch.float32), torch.arange(1 - w, w, dtype=torch.float32)
        )
        positions = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (N, 2)
        delta = positions[:, None] - positions[None]  # (N, N, 2)
        index = (delta[..., 0] + h - 1) * (2 * w - 1) + delta[..., 1] + w - 1
        self.register_buffer("offsets", steps.sign() * steps.abs().log1p(), persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        """Compute the bias ``(H, N, N)``. Call this once per pass: all layers share the bias."""
        first = next(self.mlp.parameters())
        table = self.mlp(self.offsets.to(first.dtype))  # ((2h-1)(2w-1), H)
        return table.T[:, self.index]


def alibi_slopes(num_heads: int, device: torch.device | None = None) -> Tensor:
    """Return the ALiBi slopes ``(H,)``, a geometric sequence: 1/2, 1/4 ... 1/256 for 8 heads."""
    return torch.exp2(-8.0 / num_heads * torch.arange(1, num_heads + 1, device=device))


def temporal_bias(ages: Tensor, visible: Tensor, num_heads: int) -> Tensor:
    """Return the ALiBi bias ``(..., H, Q, S)``.

    Args:
        ages: Age of each key in frames, relative to each query, ``(..., Q, S)``.
        visible: Whether each query may attend to each key, bool ``(..., Q, S)``.
        num_heads: Number of attention heads H.
    """
    slopes = alibi_slopes(num_heads, ages.device)
    bias = -slopes[:, None, None] * ages.unsqueeze(-3)
    return bias.masked_fill(~visible.unsqueeze(-3), float("-inf"))

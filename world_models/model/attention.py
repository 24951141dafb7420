"""Attention with normalised queries and keys, and the position biases it uses.

Shapes: B batch, F frames, N tokens per frame, D width, H heads, E width of a head,
Q queries, S keys.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from world_models import fused

__all__ = ["Attention", "SpatialBias", "alibi_slopes", "narrow", "temporal_bias"]

QK_SCALE = 8.0  # logits are cosine similarities times this


class Attention(nn.Module):
    """Multi-head attention whose logits are scaled cosine similarities (QK-norm).

    It is cut into `project` and `merge`, because what lies between (who sees whom) differs
    between space and time, and between training and streaming.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim, bias=False)
        self.gain = nn.Parameter(torch.ones(2, 1, head_dim))
        self.out = nn.Linear(num_heads * head_dim, dim, bias=False)

    def project(self, x: Tensor, order: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``(..., D)`` to queries, keys and values ``(..., H, E)``, their axes put in order.

        The order says which of those axes comes where: of the many layouts it takes, matrix
        products and sums are fast in the one that has the right axes last, and contiguous.
        """
        qkv = self.qkv(self.norm(narrow(x))).unflatten(-1, (3, self.num_heads, -1))
        gain = (self.gain[0] * self.gain[1] * QK_SCALE).to(qkv.dtype)  # only their product matters
        if fused.is_fusing():
            return fused.normalise(qkv, gain, order)
        qkv = qkv.movedim(-3, 0).permute(0, *(axis + 1 for axis in order)).contiguous()
        if torch.is_grad_enabled():
            return _Normalise.apply(qkv, gain)
        unit, _ = _unit(qkv[:2])
        return unit[0].mul_(gain), unit[1], qkv[2]

    def merge(self, heads: Tensor) -> Tensor:
        """Map attended values ``(..., H, E)`` back to ``(..., D)``."""
        return self.out(heads.flatten(-2))

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attend ``(..., H, Q, E)`` to ``(..., H, S, E)`` under a bias that broadcasts."""
        bias = bias.to(q.dtype)
        if q.device.type == "cpu":  # several times as fast there as the kernel
            return (q @ k.mT + bias).softmax(-1) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    @staticmethod
    def attend_past(
        q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor, bias: Tensor
    ) -> Tensor:
        """Attend one new frame to itself and to the past, token by token.

        Args:
            q: Of the new frame, ``(..., H, E)``, like ``k`` and ``v``.
            k: Its keys.
            v: Its values.
            past_k: ``(..., H, W, E)``, like ``past_v``.
            past_v: Values of the past.
            bias: Towards the past, broadcasting to ``(..., H, W)``.
        """
        now = (q * k).sum(-1, keepdim=True)
        past = (q.unsqueeze(-2) @ past_k.mT).squeeze(-2) + bias
        share = torch.cat((past, now), -1).softmax(-1)  # (..., H, W + 1)
        return (share[..., None, :-1] @ past_v).squeeze(-2) + share[..., -1:] * v


class _Normalise(torch.autograd.Function):
    """Scale queries and keys to length 1, the queries times a gain; leave values alone.

    Written out because the composed gradient passes over memory three times as often.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        unit, length = _unit(qkv[:2])
        ctx.save_for_backward(unit, length, gain)
        return unit[0] * gain, unit[1], qkv[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        unit, length, gain = ctx.saved_tensors
        inner = outer[0].new_empty(3, *outer[0].shape)
        torch.mul(outer[0], gain, out=inner[0])
        inner[1].copy_(outer[1])
        inner[2].copy_(outer[2])
        along = (unit * inner[:2]).sum(-1, keepdim=True)
        inner[:2].addcmul_(unit, along, value=-1).div_(length)
        return inner, (outer[0] * unit[0]).flatten(0, -2).sum(0, keepdim=True)


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length 1, and the lengths they had."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-6)
    return x / length, length


class SpatialBias(nn.Module):
    """Continuous position bias: an MLP from the offset between two tokens to a bias per head."""

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
            torch.arange(1 - h, h, dtype=torch.float32),
            torch.arange(1 - w, w, dtype=torch.float32),
        )
        places = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (N, 2)
        delta = places[:, None] - places[None]  # (N, N, 2)
        index = (delta[..., 0] + h - 1) * (2 * w - 1) + delta[..., 1] + w - 1
        self.register_buffer("offsets", steps.sign() * steps.abs().log1p(), persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        """Return the bias ``(H, N, N)``; compute it once per pass, all layers share it."""
        first = next(self.mlp.parameters())
        table = self.mlp(self.offsets.to(first.dtype))  # ((2h-1)(2w-1), H)
        return table.T[:, self.index]


def narrow(x: Tensor) -> Tensor:
    """In the type that autocast computes in: what follows then passes over half the memory."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def alibi_slopes(num_heads: int, device: torch.device | None = None) -> Tensor:
    """Return the slopes ``(H,)``: 1/2, 1/4 ... 1/256 for 8 heads, evenly in the exponent."""
    return torch.exp2(-8.0 / num_heads * torch.arange(1, num_heads + 1, device=device))


def temporal_bias(ages: Tensor, visible: Tensor, slopes: Tensor) -> Tensor:
    """Return the ALiBi bias ``(..., H, Q, S)``.

    Args:
        ages: How many frames a key lies before its query, ``(..., Q, S)``.
        visible: Whether the query may see the key at all, same shape.
        slopes: ``(H,)``.
    """
    bias = -slopes[:, None, None] * ages.unsqueeze(-3)
    return bias.masked_fill(~visible.unsqueeze(-3), float("-inf"))

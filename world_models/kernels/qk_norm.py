"""QK-norm: scales the queries and keys in attention to unit norm, and permutes axes.

Shapes: H heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from world_models.kernels.fused import compiled_once, is_fused

__all__ = ["QKNorm", "qk_norm", "qk_norm_plain"]

QKNorm = Callable[[Tensor, Tensor, tuple[int, ...]], tuple[Tensor, Tensor, Tensor]]

EPSILON = 1e-6  # vectors with a smaller norm are divided by this instead


def qk_norm(qkv: Tensor, gain: Tensor, order: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Scale queries and keys to unit norm, and multiply queries by a gain.

    Values stay unchanged. `qkv` is ``(..., 3, H, E)``, `gain` is ``(1, E)``. The axes of `qkv` are
    permuted to `order`, in which the axis of size 3 comes first. The results are contiguous.
    """
    if is_fused():
        return _Fused.apply(qkv, gain, order)
    if torch.is_grad_enabled():
        return _QKNorm.apply(qkv.permute(order).contiguous(), gain)
    return qk_norm_plain(qkv, gain, order)


def qk_norm_plain(
    qkv: Tensor, gain: Tensor, order: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `qk_norm` in plain torch."""
    qkv = qkv.permute(order).contiguous()
    length = torch.linalg.vector_norm(qkv[:2], dim=-1, keepdim=True).clamp_min(EPSILON)
    unit = qkv[:2] / length
    return unit[0] * gain, unit[1], qkv[2]


class _QKNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length = torch.linalg.vector_norm(qkv[:2], dim=-1, keepdim=True).clamp_min(EPSILON)
        unit = qkv[:2] / length
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


class _Fused(torch.autograd.Function):
    """Writes the gradient in the memory layout of ``qkv`` in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, gain: Tensor, order: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, unit, key, value, *lengths = _fused_forward(qkv, gain, order)
        ctx.save_for_backward(unit, key, *lengths, gain)
        ctx.order = order
        return query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        outer = tuple(x.contiguous() for x in outer)  # the gradient of the keys arrives transposed
        return *_fused_backward(*outer, *ctx.saved_tensors, ctx.order), None


@compiled_once
def _fused_forward(qkv: Tensor, gain: Tensor, order: tuple[int, ...]) -> tuple[Tensor, ...]:
    *pair, value = qkv.permute(order).unbind(0)
    lengths = [
        torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).clamp_min(EPSILON) for x in pair
    ]
    query, key = (x / length for x, length in zip(pair, lengths, strict=True))
    found = (query * gain, query, key, value)
    return *(x.to(qkv.dtype).contiguous() for x in found), *lengths


@compiled_once
def _fused_backward(
    of_query: Tensor,
    of_key: Tensor,
    of_value: Tensor,
    query: Tensor,
    key: Tensor,
    query_length: Tensor,
    key_length: Tensor,
    gain: Tensor,
    order: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    of_gain = (of_query * query.float()).flatten(0, -2).sum(0, keepdim=True)
    inner = [
        (outer - unit * (outer * unit).sum(-1, keepdim=True)) / length
        for outer, unit, length in (
            (of_query * gain, query, query_length),
            (of_key, key, key_length),
        )
    ]
    axes = [axis - (axis > order[0]) for axis in order[1:]]  # `order` without the axis of size 3
    back = [axes.index(axis) for axis in range(len(axes))]
    parts = [x.to(of_value.dtype).permute(back) for x in (*inner, of_value)]
    return torch.stack(parts, -3), of_gain.to(gain.dtype)

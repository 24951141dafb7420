"""GEGLU: one half of the channels gates the other half.

Shapes: I channels of values, and as many of gates.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from world_models.kernels.fused import compiled_once, is_fused

__all__ = ["geglu", "geglu_plain"]


def geglu(x: Tensor) -> Tensor:
    """Multiply values by the GELU of their gates: map ``(..., 2 I)`` to ``(..., I)``."""
    if is_fused():
        return _fused(x)
    if torch.is_grad_enabled():
        return _Geglu.apply(x)
    return geglu_plain(x)


def geglu_plain(x: Tensor) -> Tensor:
    """Compute `geglu` in plain torch."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate.contiguous())  # twice as fast as on a strided tensor


class _Geglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        gate = gate.contiguous()
        opened = F.gelu(gate)
        ctx.save_for_backward(value, gate, opened)
        return value * opened

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Tensor:
        value, gate, opened = ctx.saved_tensors
        inner = outer.new_empty(*outer.shape[:-1], 2 * outer.shape[-1])
        of_value, of_gate = inner.chunk(2, dim=-1)
        torch.mul(outer, opened, out=of_value)
        of_gate.copy_(torch.ops.aten.gelu_backward(outer * value, gate))
        return inner


@compiled_once
def _fused(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)

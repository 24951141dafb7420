"""Pieces of a training step that a compiler makes into single loops, for CPUs.

A step there waits for memory more than for its matrix products, and these pieces pass over the
same memory several times where they are put together from ready-made operations. The rest of a
step is no faster compiled, and is left as it is.

Each computes what its namesake in `blocks`, `attention` and `peg` does, but for rounding.

Shapes: B batch, F frames of a pass, T of them context, N = h * w tokens per frame, D width,
H heads, E width of a head, P kernels over time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from world_models.compiled import compiled

__all__ = ["add_neighbours", "fusing", "geglu", "is_fusing", "normalise", "padded", "shifted"]

_fusing = ContextVar("fusing", default=False)


@contextmanager
def fusing(enabled: bool = True) -> Iterator[None]:
    """Take the pieces of this module in what is computed, and differentiated, inside."""
    token = _fusing.set(enabled)
    try:
        yield
    finally:
        _fusing.reset(token)


def is_fusing() -> bool:
    """Whether `fusing` holds here; not in what is compiled itself."""
    return not torch.compiler.is_compiling() and _fusing.get()


def _one_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    @cache
    def ready() -> Callable[..., Any]:
        return compiled(function)  # loads the compiler, which takes seconds: not before it is used

    @wraps(function)
    def call(*args: Any) -> Any:
        return ready()(*args)

    return call


@_one_loop
def geglu(x: Tensor) -> Tensor:
    """Map ``(..., 2 I)``, values and gates, to ``(..., I)``."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def normalise(qkv: Tensor, gain: Tensor, order: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Scale queries and keys to length 1, the queries times a gain, and put axes in order.

    Args:
        qkv: Queries, keys and values, ``(..., 3, H, E)``.
        gain: ``(1, E)``.
        order: Which axis of ``(..., H, E)`` comes where.
    """
    return _Normalise.apply(qkv, gain, order)


class _Normalise(torch.autograd.Function):
    """Written out so that gradients are put together in the order in which ``qkv`` lies."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, gain: Tensor, order: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, unit, key, value, *lengths = _normalise(qkv, gain, order)
        ctx.save_for_backward(unit, key, *lengths, gain)
        ctx.order = order
        return query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        outer = tuple(x.contiguous() for x in outer)  # that of keys comes transposed
        return *_normalise_backward(*outer, *ctx.saved_tensors, ctx.order), None


@_one_loop
def _normalise(qkv: Tensor, gain: Tensor, order: tuple[int, ...]) -> tuple[Tensor, ...]:
    *pair, value = (x.permute(order) for x in qkv.unbind(-3))
    lengths = [
        torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).clamp_min(1e-6) for x in pair
    ]
    query, key = (x / length for x, length in zip(pair, lengths, strict=True))
    found = (query * gain, query, key, value)
    return *(x.to(qkv.dtype).contiguous() for x in found), *lengths


@_one_loop
def _normalise_backward(
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
    back = [order.index(axis) for axis in range(len(order))]
    parts = [x.to(of_value.dtype).permute(back) for x in (*inner, of_value)]
    return torch.stack(parts, -3), of_gain.to(gain.dtype)


def add_neighbours(
    x: Tensor, seen: Tensor, taps: Tensor, bias: Tensor, grid: tuple[int, int], num_context: int
) -> Tensor:
    """Frames ``(B, F, N, D)``, and what their neighbours in space and time add to them.

    Args:
        x: The frames.
        seen: The frames in the type that is kept for the gradient.
        taps: Kernels ``(P, D, 1, 3, 3)`` of past frames, oldest first, and of a frame itself.
        bias: ``(D,)``.
        grid: (h, w).
        num_context: T; see `world_models.blocks.SpaceTimeTransformer.enter`.
    """
    kernels = taps.flatten(2).mT.contiguous()  # (P, 9, D)
    return _AddNeighbours.apply(x, seen, kernels, bias, grid, num_context)


class _AddNeighbours(torch.autograd.Function):
    """Written out because the compiler differentiates shifted sums into slow loops."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        seen: Tensor,
        kernels: Tensor,
        bias: Tensor,
        grid: tuple[int, int],
        num_context: int,
    ) -> Tensor:
        ctx.save_for_backward(seen, kernels)
        ctx.where = grid, num_context
        return _add_neighbours(x, kernels, bias, grid, num_context)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inner, *of_weights = _add_neighbours_backward(outer, *ctx.saved_tensors, *ctx.where)
        return inner, None, *of_weights, None, None


@_one_loop
def _add_neighbours(
    x: Tensor, kernels: Tensor, bias: Tensor, grid: tuple[int, int], num_context: int
) -> Tensor:
    *before, now = kernels.float()
    num_second = x.shape[1] - num_context
    past = padded(x[:, :num_context], grid, (len(before), 0))
    found = _gather(x[:, :num_context] + bias, past, len(before), now)
    for tap, kernel in enumerate(before):
        found = _gather(found, past, tap, kernel)
    if num_second:
        second = x[:, num_context:]
        second = _gather(second + bias, padded(second, grid), 0, now)
        for tap, kernel in enumerate(before):
            second = _gather(second, past, num_context - num_second + tap, kernel)
        found = torch.cat((found, second), 1)
    return found.to(x.dtype)


@_one_loop
def _add_neighbours_backward(
    outer: Tensor, seen: Tensor, kernels: Tensor, grid: tuple[int, int], num_context: int
) -> tuple[Tensor, Tensor, Tensor]:
    # A kernel's gradient flows back the other way round.
    *before, now = (kernel.unbind()[::-1] for kernel in kernels.float())
    num_before, num_second = len(before), outer.shape[1] - num_context
    context, second = outer[:, :num_context], outer[:, num_context:]
    taken = context
    if num_second:
        taken = context + F.pad(second, (0, 0, 0, 0, num_context - num_second, 0))
    inner = _gather(context, padded(context, grid), 0, now)
    future = padded(taken, grid, (0, num_before))
    for tap, kernel in enumerate(before):
        inner = _gather(inner, future, num_before - tap, kernel)

    past = padded(seen[:, :num_context], grid, (num_before, 0))
    of_kernels = [_correlate(taken, past, tap, grid) for tap in range(num_before)]
    of_kernels.append(_correlate(context, past, num_before, grid))
    if num_second:
        inner = torch.cat((inner, _gather(second, padded(second, grid), 0, now)), 1)
        more = _correlate(second, padded(seen[:, num_context:], grid), 0, grid)
        of_kernels[-1] = of_kernels[-1] + more
    of_bias = outer.float().sum((0, 1, 2))
    return inner.to(outer.dtype), torch.stack(of_kernels).to(kernels.dtype), of_bias


def padded(x: Tensor, grid: tuple[int, int], frames: tuple[int, ...] = ()) -> Tensor:
    """Map ``(..., N, D)`` to ``(..., h + 2, w + 2, D)``, with more frames on either side."""
    return F.pad(x.unflatten(-2, grid), (0, 0, 1, 1, 1, 1, *frames))


def shifted(image: Tensor) -> Iterator[Tensor]:
    """What `padded` returns, shifted to each of nine places: ``(..., h, w, D)``."""
    h, w = image.shape[-3] - 2, image.shape[-2] - 2
    for row in range(3):
        for column in range(3):
            yield image[..., row : row + h, column : column + w, :]


def _gather(x: Tensor, image: Tensor, start: int, kernel: Tensor) -> Tensor:
    """Add to frames ``(B, F, N, D)`` what F others give through a kernel ``(9, D)``."""
    givers = image[:, start : start + x.shape[1]]
    for place, weight in zip(shifted(givers), kernel, strict=True):
        x = x + (place.float() * weight).flatten(-3, -2)
    return x


def _correlate(outer: Tensor, image: Tensor, start: int, grid: tuple[int, int]) -> Tensor:
    """The gradient ``(9, D)`` of the kernel through which frames gave."""
    outer = outer.unflatten(-2, grid).float()
    givers = image[:, start : start + outer.shape[1]]
    return torch.stack([(outer * place.float()).sum((0, 1, 2, 3)) for place in shifted(givers)])

"""The depth-wise 3x3x3 convolution of PEG, causal in time, added to its input.

A pass has T clean frames, then masked copies of the last ``F - T`` clean frames: copies in which
some tokens are masked. The convolution for a masked copy covers this copy and the clean frames
before it; see `SpaceTimeTransformer.all_but_last`.

Shapes: B batch, F frames in a pass, T clean frames, N = h * w tokens per frame, D width,
P kernels over time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from world_models.kernels.fused import compiled_once, is_fused

__all__ = ["add_neighbours", "add_neighbours_plain", "convolve", "shifted_sums"]

Grid = tuple[int, int]


def add_neighbours(
    x: Tensor, seen: Tensor, taps: Tensor, bias: Tensor, grid: Grid, num_clean: int
) -> Tensor:
    """Convolve frames, and add the result to the frames.

    Args:
        x: The frames, ``(B, F, N, D)``.
        seen: The same frames, in the dtype in which the convolution is computed.
        taps: One 3x3 kernel for each past frame, oldest first, then the kernel for the frame
            itself, ``(P, D, 1, 3, 3)``.
        bias: Bias for each channel, ``(D,)``.
        grid: Number of tokens along the height and width of a frame, (h, w).
        num_clean: Number of clean frames T.
    """
    if is_fused():
        kernels = taps.flatten(2).mT.contiguous()  # (P, 9, D)
        return _Fused.apply(x, seen, kernels, bias, grid, num_clean)
    if torch.compiler.is_compiling() and num_clean == x.shape[1]:
        return add_neighbours_plain(x, seen, taps, bias, grid)
    return _AddNeighbours.apply(x, seen, taps, bias, grid, num_clean)


def add_neighbours_plain(x: Tensor, seen: Tensor, taps: Tensor, bias: Tensor, grid: Grid) -> Tensor:
    """Compute `add_neighbours` in plain torch, for clean frames only."""
    kernels = taps.to(seen.dtype)
    own = shifted_sums if torch.compiler.is_compiling() else convolve
    added = own(seen, grid, kernels[-1], bias.to(seen.dtype))
    for age in range(1, min(len(taps), seen.shape[1])):
        given = convolve(seen[:, :-age], grid, kernels[-1 - age])
        added = added + F.pad(given, (0, 0, 0, 0, age, 0))
    return x + added


def convolve(x: Tensor, grid: Grid, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel of ``(..., N, D)`` with its own 3x3 kernel in ``(D, 1, 3, 3)``."""
    image = x.reshape(-1, *grid, x.shape[-1]).permute(0, 3, 1, 2)  # channels last
    image = F.conv2d(image, weight, bias, padding=1, groups=x.shape[-1])
    return image.permute(0, 2, 3, 1).reshape(x.shape)


def shifted_sums(x: Tensor, grid: Grid, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `convolve` as nine shifted sums, which a compiler fuses with the next operations."""
    kernel = weight.flatten(1).mT.contiguous()  # (9, D): channels must be contiguous
    added = bias
    for place, tap in zip(shifted(padded(x, grid)), kernel, strict=True):
        added = added + place * tap
    return added.flatten(-3, -2)


def padded(x: Tensor, grid: Grid, frames: tuple[int, ...] = ()) -> Tensor:
    """Pad frames ``(..., N, D)`` to ``(..., h + 2, w + 2, D)``, and the frame axis by `frames`."""
    return F.pad(x.unflatten(-2, grid), (0, 0, 1, 1, 1, 1, *frames))


def shifted(image: Tensor) -> Iterator[Tensor]:
    """Yield nine shifted views, each ``(..., h, w, D)``, of a tensor returned by `padded`."""
    h, w = image.shape[-3] - 2, image.shape[-2] - 2
    for row in range(3):
        for column in range(3):
            yield image[..., row : row + h, column : column + w, :]


# The gradient written by hand -------------------------------------------------------------------


class _AddNeighbours(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seen: Tensor, taps: Tensor, bias: Tensor, grid: Grid, num_clean: int
    ) -> Tensor:
        kernels = taps.to(seen.dtype)
        ctx.save_for_backward(seen, kernels)
        ctx.grid, ctx.num_clean, ctx.taps_dtype = grid, num_clean, taps.dtype
        added = convolve(seen, grid, kernels[-1], bias.to(seen.dtype))
        for age, again, start in _past(seen, len(taps), num_clean):
            given = convolve(seen[:, : num_clean - age], grid, kernels[-1 - age])
            added[:, age:num_clean] += given
            added[:, num_clean + again :] += given[:, start:]
        return added.to(x.dtype).add_(x)  # `x + added` would need another buffer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (seen, kernels), num_clean = ctx.saved_tensors, ctx.num_clean
        rounded = outer.to(seen.dtype)
        inner, tap, bias = _convolve_backward(rounded, seen, ctx.grid, kernels[-1])
        taps = [tap]
        for age, again, start in _past(seen, len(kernels), num_clean):
            taken = rounded[:, age:num_clean].clone()
            taken[:, start:] += rounded[:, num_clean + again :]
            givers = seen[:, : num_clean - age]
            given, tap, _ = _convolve_backward(taken, givers, ctx.grid, kernels[-1 - age])
            inner[:, : num_clean - age] += given
            taps.insert(0, tap)
        of_weights = (gradient.to(ctx.taps_dtype) for gradient in (torch.stack(taps), bias))
        return inner.to(outer.dtype).add_(outer), None, *of_weights, None, None


def _past(x: Tensor, num_taps: int, num_clean: int) -> Iterator[tuple[int, int, int]]:
    """For each age in frames, find the earliest masked copy with a past frame of this age.

    Yields:
        The age (1, 2, ...), the index of that masked copy, and the index of its past frame.
    """
    first = 2 * num_clean - x.shape[1]  # the first clean frame with a masked copy
    for age in range(1, num_taps):
        start = max(first, age)
        yield age, start - first, start - age


def _convolve_backward(
    outer: Tensor, x: Tensor, grid: Grid, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `convolve` with respect to ``x``, weight and bias."""
    outer, image = (y.reshape(-1, *grid, x.shape[-1]).permute(0, 3, 1, 2) for y in (outer, x))
    one, channels = [1, 1], x.shape[-1]
    inner, *of_kernel = torch.ops.aten.convolution_backward(
        outer, image, weight, [channels], one, one, one, False, [0, 0], channels, [True] * 3
    )
    return inner.permute(0, 2, 3, 1).reshape(x.shape), *of_kernel


# Compiled into single loops ---------------------------------------------------------------------


class _Fused(torch.autograd.Function):
    """Has a hand-written gradient: torch would compile autograd's gradient into slow loops."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seen: Tensor, kernels: Tensor, bias: Tensor, grid: Grid, num_clean: int
    ) -> Tensor:
        ctx.save_for_backward(seen, kernels)
        ctx.where = grid, num_clean
        return _fused_forward(x, kernels, bias, grid, num_clean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inner, *of_weights = _fused_backward(outer, *ctx.saved_tensors, *ctx.where)
        return inner, None, *of_weights, None, None


@compiled_once
def _fused_forward(x: Tensor, kernels: Tensor, bias: Tensor, grid: Grid, num_clean: int) -> Tensor:
    *before, now = kernels.float()
    num_second = x.shape[1] - num_clean
    past = padded(x[:, :num_clean], grid, (len(before), 0))
    found = _gather(x[:, :num_clean] + bias, past, len(before), now)
    for tap, kernel in enumerate(before):
        found = _gather(found, past, tap, kernel)
    if num_second:
        second = x[:, num_clean:]
        second = _gather(second + bias, padded(second, grid), 0, now)
        for tap, kernel in enumerate(before):
            second = _gather(second, past, num_clean - num_second + tap, kernel)
        found = torch.cat((found, second), 1)
    return found.to(x.dtype)


@compiled_once
def _fused_backward(
    outer: Tensor, seen: Tensor, kernels: Tensor, grid: Grid, num_clean: int
) -> tuple[Tensor, Tensor, Tensor]:
    # The gradient flows back through flipped kernels.
    *before, now = (kernel.unbind()[::-1] for kernel in kernels.float())
    num_before, num_second = len(before), outer.shape[1] - num_clean
    clean, second = outer[:, :num_clean], outer[:, num_clean:]
    taken = clean
    if num_second:
        taken = clean + F.pad(second, (0, 0, 0, 0, num_clean - num_second, 0))
    inner = _gather(clean, padded(clean, grid), 0, now)
    future = padded(taken, grid, (0, num_before))
    for tap, kernel in enumerate(before):
        inner = _gather(inner, future, num_before - tap, kernel)

    past = padded(seen[:, :num_clean], grid, (num_before, 0))
    of_kernels = [_correlate(taken, past, tap, grid) for tap in range(num_before)]
    of_kernels.append(_correlate(clean, past, num_before, grid))
    if num_second:
        inner = torch.cat((inner, _gather(second, padded(second, grid), 0, now)), 1)
        more = _correlate(second, padded(seen[:, num_clean:], grid), 0, grid)
        of_kernels[-1] = of_kernels[-1] + more
    of_bias = outer.float().sum((0, 1, 2))
    return inner.to(outer.dtype), torch.stack(of_kernels).to(kernels.dtype), of_bias


def _gather(x: Tensor, image: Tensor, start: int, kernel: Tensor) -> Tensor:
    """Convolve F frames of `image` with a kernel ``(9, D)``, and add the result to ``x``.

    ``x`` is ``(B, F, N, D)``; `image` is a result of `padded`, and its frames from `start` on are
    used.
    """
    givers = image[:, start : start + x.shape[1]]
    for place, weight in zip(shifted(givers), kernel, strict=True):
        x = x + (place.float() * weight).flatten(-3, -2)
    return x


def _correlate(outer: Tensor, image: Tensor, start: int, grid: Grid) -> Tensor:
    """Return the gradient ``(9, D)`` with respect to the kernel in `_gather`."""
    outer = outer.unflatten(-2, grid).float()
    givers = image[:, start : start + outer.shape[1]]
    return torch.stack([(outer * place.float()).sum((0, 1, 2, 3)) for place in shifted(givers)])

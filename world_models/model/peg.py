"""Where a token is, told by its neighbours: a convolution over space and, causally, time.

Shapes: B batch, F frames of a pass, T of them context, N = h * w tokens per frame, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from world_models import fused
from world_models.attention import narrow

__all__ = ["Peg", "convolve"]


def convolve(
    x: Tensor, grid: tuple[int, int], weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Convolve every channel of ``(..., N, D)`` by its own 3x3 kernel of ``(D, 1, 3, 3)``."""
    image = x.reshape(-1, *grid, x.shape[-1]).permute(0, 3, 1, 2)  # channels last
    image = F.conv2d(image, weight, bias, padding=1, groups=x.shape[-1])
    return image.permute(0, 2, 3, 1).reshape(x.shape)


def convolve_backward(
    outer: Tensor, x: Tensor, grid: tuple[int, int], weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `convolve` with respect to ``x``, weight and bias."""
    outer, image = (y.reshape(-1, *grid, x.shape[-1]).permute(0, 3, 1, 2) for y in (outer, x))
    one, channels = [1, 1], x.shape[-1]
    inner, *of_kernel = torch.ops.aten.convolution_backward(
        outer, image, weight, [channels], one, one, one, False, [0, 0], channels, [True] * 3
    )
    return inner.permute(0, 2, 3, 1).reshape(x.shape), *of_kernel


class Peg(nn.Module):
    """Position-encoding generator: a depth-wise 3x3x3 convolution, causal in time.

    Its three time taps are kept apart: what a frame adds to the one after the next, to the next,
    and to itself. The past's share is therefore computed once per frame.
    """

    def __init__(self, dim: int, grid: tuple[int, int], temporal: bool):
        super().__init__()
        self.grid = grid
        conv = nn.Conv3d(dim, dim, 3, groups=dim)
        taps = conv.weight.detach().permute(2, 0, 1, 3, 4)  # (3, D, 1, 3, 3), oldest first
        self.taps = nn.Parameter(taps[0 if temporal else 2 :].contiguous())
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, num_context: int) -> Tensor:
        """Frames ``(B, F, N, D)`` and what they, and those before, add to them.

        See `SpaceTimeTransformer.enter` for which those are.
        """
        if fused.is_fusing():
            return fused.add_neighbours(x, narrow(x), self.taps, self.bias, self.grid, num_context)
        if len(self.taps) == 1:
            return x + self.now(narrow(x))
        if not torch.compiler.is_compiling() or num_context < x.shape[1]:
            return _AddNeighbours.apply(x, self.taps, self.bias, self.grid, num_context)
        added = self.now(x)  # compiled, adding to slices in place would take ten times as long
        for age in range(1, min(3, num_context)):
            given = convolve(x[:, :-age], self.grid, self.taps[2 - age])
            added = added + F.pad(given, (0, 0, 0, 0, age, 0))
        return x + added

    def now(self, x: Tensor) -> Tensor:
        """What frames ``(..., N, D)`` add to themselves."""
        if not torch.compiler.is_compiling():
            return convolve(x, self.grid, self.taps[-1], self.bias)
        # Nine shifted sums become one with what follows; channels must lie side by side.
        added, kernel = self.bias, self.taps[-1].flatten(1).mT.contiguous()
        places = fused.shifted(fused.padded(x, self.grid))
        for place, weight in zip(places, kernel, strict=True):
            added = added + place * weight
        return added.flatten(-3, -2)


class _AddNeighbours(torch.autograd.Function):
    """Frames, and what their neighbours in space and time add to them.

    Written out because the composed gradient passes over memory twice as often.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, grid: tuple[int, int], num_context: int
    ) -> Tensor:
        seen = narrow(x)
        kernels = taps.to(seen.dtype)
        ctx.save_for_backward(seen, kernels)
        ctx.grid, ctx.num_context, ctx.taps_dtype = grid, num_context, taps.dtype
        added = convolve(seen, grid, kernels[-1], bias.to(seen.dtype))
        for age, again, start in _past(seen, num_context):
            given = convolve(seen[:, : num_context - age], grid, kernels[2 - age])
            added[:, age:num_context] += given
            added[:, num_context + again :] += given[:, start:]
        return added.to(x.dtype).add_(x)  # one buffer less than `x + added`

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (seen, kernels), num_context = ctx.saved_tensors, ctx.num_context
        rounded = outer.to(seen.dtype)
        inner, tap, bias = convolve_backward(rounded, seen, ctx.grid, kernels[2])
        taps = [tap]
        for age, again, start in _past(seen, num_context):
            taken = rounded[:, age:num_context].clone()
            taken[:, start:] += rounded[:, num_context + again :]
            givers = seen[:, : num_context - age]
            given, tap, _ = convolve_backward(taken, givers, ctx.grid, kernels[2 - age])
            inner[:, : num_context - age] += given
            taps.insert(0, tap)
        of_weights = (gradient.to(ctx.taps_dtype) for gradient in (torch.stack(taps), bias))
        return inner.to(outer.dtype).add_(outer), *of_weights, None, None


def _past(x: Tensor, num_context: int) -> Iterator[tuple[int, int, int]]:
    """Which frames of `SpaceTimeTransformer.enter` are added to by those 1 and 2 frames before.

    Yields:
        How old what is added is; the first second version that it is added to; and the number of
        the frame that gives it there.
    """
    first = 2 * num_context - x.shape[1]  # of which there is a second version
    for age in (1, 2):
        start = max(first, age)
        yield age, start - first, start - age

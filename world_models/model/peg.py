"""PEG (position encoding generator): a convolution that encodes the positions of tokens.

Shapes: B batch, F frames in a pass, N = h * w tokens per frame, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_models.kernels.neighbours import add_neighbours, convolve, shifted_sums

__all__ = ["Peg"]


class Peg(nn.Module):
    """A depth-wise 3x3x3 convolution, causal in time.

    The kernel is split over time into three taps, one for each contribution of a frame: to the
    frame after the next, to the next frame, and to the frame itself. So each contribution is
    computed only once.
    """

    def __init__(self, dim: int, grid: tuple[int, int], temporal: bool):
        super().__init__()
        self.grid = grid
        conv = nn.Conv3d(dim, dim, 3, groups=dim)
        taps = conv.weight.detach().permute(2, 0, 1, 3, 4)  # (3, D, 1, 3, 3), oldest first
        self.taps = nn.Parameter(taps[0 if temporal else 2 :].contiguous())
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, seen: Tensor, num_clean: int) -> Tensor:
        """Convolve frames ``(B, F, N, D)``, and add the result to them; see `add_neighbours`."""
        return add_neighbours(x, seen, self.taps, self.bias, self.grid, num_clean)

    def now(self, x: Tensor) -> Tensor:
        """Convolve frames ``(..., N, D)`` independently, without contributions from past frames."""
        own = shifted_sums if torch.compiler.is_compiling() else convolve
        return own(x, self.grid, self.taps[-1], self.bias)

"""An embedding of the brightness of the previous frame's patches, added to every token.

Some games draw important state in a corner of the frame. CoinRun's velocity map shows the player's
speed as two shades of grey, and the speed decides how far *every* patch moves next. A linear layer
on pixels hardly tells these shades apart; sines of the brightness at several frequencies do.

Shapes: B batch, T frames, N patches per frame, D width, H height, W width of a frame.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.model.linear import row_by_row
from world_models.pixels import patches_from_pixels, to_float

__all__ = ["BrightnessEmbedding"]

NUM_WAVES = 6  # the shortest wave separates shades that differ by 1/32
HIDDEN = 256


class BrightnessEmbedding(nn.Module):
    """Computes one vector per frame, which is added to all tokens of the next frame."""

    waves: Tensor

    def __init__(self, num_patches: int, patch: int, dim: int):
        super().__init__()
        self.patch = patch
        waves = math.pi / 2 * 2.0 ** torch.arange(NUM_WAVES)
        self.register_buffer("waves", waves, persistent=False)
        self.first = nn.Linear(num_patches * 2 * NUM_WAVES, HIDDEN)
        self.last = nn.Linear(HIDDEN, dim)
        self.norm = nn.LayerNorm(dim, bias=False)  # scales the output like an embedding

    def forward(self, frames: Tensor) -> Tensor:
        """Embed uint8 frames.

        Frames ``(B, T, H, W, 3)`` give vectors ``(B, T, 1, D)``, single frames ``(B, H, W, 3)``
        give ``(B, 1, D)``. For single frames, the result for a batch item is bit-identical whatever
        the other items are.
        """
        brightness = patches_from_pixels(to_float(frames), self.patch).mean(-1, keepdim=True)
        angles = brightness * self.waves.float()  # (..., N, waves)
        waves = torch.cat((angles.sin(), angles.cos()), -1).flatten(-2)
        waves = waves.to(self.first.weight.dtype)
        if waves.ndim > 2:
            return self.norm(self.last(F.gelu(self.first(waves)))).unsqueeze(-2)
        hidden = F.gelu(row_by_row(self.first, waves))
        return self.norm(row_by_row(self.last, hidden)).unsqueeze(-2)

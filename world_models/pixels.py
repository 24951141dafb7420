"""Converts between stored pixels and the networks' input.

Stored pixels are uint8 ``(..., H, W, C)``, from 0 to 255. Networks take floats ``(..., C, H, W)``,
from 0 to 1.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

__all__ = ["check_patch", "patches_from_pixels", "pixels_from_patches", "to_float", "to_uint8"]


def check_patch(frame_size: int, patch: int) -> None:
    """Raise ValueError unless `frame_size` is a multiple of `patch`."""
    if patch < 1 or frame_size % patch:
        raise ValueError(
            f"frame_size {frame_size} is not a multiple of patch {patch}; choose a patch size "
            "such as 4 or 8"
        )


def to_float(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn uint8 frames ``(..., H, W, C)`` into floats in [0, 1], ``(..., C, H, W)``."""
    if frames.dtype != torch.uint8:
        raise ValueError(
            f"expected uint8 frames (..., H, W, C) in 0..255, got {frames.dtype}; "
            "pass the frames as they are stored, without converting them"
        )
    return frames.movedim(-1, -3).to(dtype).div(255)


def to_uint8(pixels: Tensor) -> Tensor:
    """Turn floats ``(..., C, H, W)`` into uint8 frames ``(..., H, W, C)``, clipped and rounded."""
    return pixels.float().mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


def patches_from_pixels(pixels: Tensor, patch: int) -> Tensor:
    """Cut pixels ``(..., C, H, W)`` into patches ``(..., N, patch * patch * C)``."""
    return rearrange(pixels, "... c (h p) (w q) -> ... (h w) (p q c)", p=patch, q=patch)


def pixels_from_patches(patches: Tensor, patch: int, size: int) -> Tensor:
    """Undo `patches_from_pixels`, for frames with ``size`` x ``size`` pixels."""
    return rearrange(
        patches, "... (h w) (p q c) -> ... c (h p) (w q)", h=size // patch, p=patch, q=patch
    )

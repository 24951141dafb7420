"""Sample images: strips of real frames, with the model's frames directly below them.

Shapes: B windows, T frames, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_models.inference.world import WorldModel
from world_models.model.latent_action import LatentActionModel
from world_models.pixels import to_float, to_uint8
from world_models.tokenizers.base import Tokenizer

__all__ = ["dream", "inferred", "real_over_predicted", "reconstructed"]


def real_over_predicted(real: Tensor, predicted: Tensor) -> Tensor:
    """Stack two uint8 clips ``(B, T, H, W, 3)`` into one image ``(B * 2 * H, T * W, 3)``."""
    both = torch.stack((real.cpu(), predicted.cpu()), 1)  # (B, 2, T, H, W, 3)
    return both.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(0, 2)


def reconstructed(tokenizer: nn.Module, frames: Tensor) -> Tensor:
    """Draw frames, and below them the tokenizer's reconstructions of these frames."""
    assert isinstance(tokenizer, Tokenizer)
    return real_over_predicted(frames, tokenizer.reconstruct(frames))


def inferred(model: nn.Module, frames: Tensor) -> Tensor:
    """Draw all frames except the first, and below them a latent action model's predictions."""
    assert isinstance(model, LatentActionModel)
    return real_over_predicted(frames[:, 1:], to_uint8(model(to_float(frames))[0]))


def dream(world: WorldModel, frames: Tensor, actions: Tensor) -> Tensor:
    """Draw all frames except the first, and below them a dream that starts from the first frame.

    The dream takes the actions ``(B, T - 1)``.
    """
    seeds = torch.arange(len(frames), device=frames.device)
    rollout = world.eval().rollout(frames[:, :1], actions, seeds)
    return real_over_predicted(frames[:, 1:], rollout.frames)

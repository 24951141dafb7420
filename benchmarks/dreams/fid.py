"""Compute the Frechet distance between the features of real and dreamed frames.

Shapes: B windows, n frames, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.extras import require
from world_models.pixels import to_float

__all__ = ["FidUnavailableError", "frechet_distance", "inception"]

INPUT_SIZE = 299
_AT_ONCE = 32


class FidUnavailableError(RuntimeError):
    """Raised if FID cannot be computed; the message says what is missing."""


def inception(weights: Path | None) -> nn.Module:
    """Load the Inception network that published FIDs use, from local weights.

    Raises:
        FidUnavailableError: If the weights or the network's package are missing.
    """
    if weights is None:
        raise FidUnavailableError("no weights given (--fid-weights FILE)")
    if not weights.is_file():
        raise FidUnavailableError(f"there is no file {weights}: check --fid-weights")
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # no pickled code
        require("torch_fidelity", extra="fid", what="FID needs torch-fidelity")
        from torchmetrics.image.fid import NoTrainInceptionV3

        return NoTrainInceptionV3(
            name="inception-v3-compat",
            features_list=["2048"],
            feature_extractor_weights_path=str(weights),
        )
    except ImportError as fault:
        raise FidUnavailableError(str(fault)) from None
    except (OSError, RuntimeError, EOFError, UnpicklingError) as fault:
        raise FidUnavailableError(f"{weights} contains no Inception weights: {fault}") from None


def frechet_distance(features: nn.Module, real: Tensor, frames: Tensor) -> float:
    """Return the FID between dreamed and real frames, pooled over windows and steps.

    Args:
        features: Network that maps uint8 images ``(N, 3, 299, 299)`` to features ``(N, D)``.
        real: Real frames, uint8 ``(B, n, H, W, 3)``.
        frames: Dreamed frames of the same shape.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=features)
    for clip, is_real in ((real, True), (frames, False)):
        for part in clip.flatten(0, 1).split(_AT_ONCE):
            enlarged = F.interpolate(to_float(part), (INPUT_SIZE, INPUT_SIZE), mode="nearest")
            metric.update(enlarged.mul(255).round().to(torch.uint8), real=is_real)
    return float(metric.compute())

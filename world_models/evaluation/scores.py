"""How close every frame of a dream is to the real one of its moment, and whether actions matter.

Shapes: B windows, n dreamed frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from world_models.evaluation.metrics import differing, frame_psnr

__all__ = ["DELTA_STEP", "frame_scores"]

DELTA_STEP = 4
"""The step ahead at which the literature reports how much the actions matter."""


def frame_scores(
    real: Tensor,
    last: Tensor,
    *,
    dream: Tensor,
    ceiling: Tensor,
    astray: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Score every frame by itself.

    Args:
        real: What happened, uint8 ``(B, n, H, W, 3)``.
        last: The last frame before it, ``(B, 1, H, W, 3)``: copying it is the floor.
        dream: What was dreamed, with the same actions.
        ceiling: The real frames through the tokenizer: no dream can be closer.
        astray: Dreams with other actions, by the ends of their scores' names.

    Returns:
        In dB, ``(B, n)``; NaN where a frame has no pixel to judge. ``psnr`` of all pixels and
        ``changed_psnr`` of those that differ from `last`, each also for copying (``_copy``) and
        for the tokenizer (``_ceiling``); ``delta_psnr`` and ``delta_changed_psnr``, each with the
        ends of `astray`: how much is lost with other actions.
    """
    masks = {"psnr": None, "changed_psnr": differing(real, last)}
    shown = {"": dream, "_copy": last.expand_as(real), "_ceiling": ceiling}
    scores = {
        name + kind: frame_psnr(frames, real, where)
        for kind, frames in shown.items()
        for name, where in masks.items()
    }
    for kind, frames in astray.items():
        for name, where in masks.items():
            scores[f"delta_{name}{kind}"] = scores[name] - frame_psnr(frames, real, where)
    return scores

"""Scores how close each dreamed frame is to the real frame, and how much the actions matter.

Shapes: B windows, n dreamed frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from genie_gym.evaluation.metrics import differing, frame_psnr

__all__ = ["DELTA_STEP", "frame_scores"]

DELTA_STEP = 4
"""The step of a dream at which the literature reports delta PSNR, the effect of the actions."""


def frame_scores(
    real: Tensor,
    last: Tensor,
    *,
    dream: Tensor,
    ceiling: Tensor,
    astray: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Score each frame of a dream.

    Args:
        real: The real frames, uint8 ``(B, n, H, W, 3)``.
        last: The last frame before `real`, ``(B, 1, H, W, 3)``. The baseline repeats this frame.
        dream: The frames generated with the real actions.
        ceiling: The real frames, encoded and decoded by the world model's tokenizer.
        astray: Frames generated with other actions; the keys are suffixes of score names.

    Returns:
        Scores in dB by name, each ``(B, n)``; NaN where a frame has no pixel to score.

        - ``psnr`` is over all pixels, ``changed_psnr`` over the pixels that differ from `last`.
        - The suffix ``_copy`` marks scores of copies of `last`, ``_ceiling`` scores of `ceiling`.
        - ``delta_psnr`` and ``delta_changed_psnr``, followed by a key of `astray`, are the drops in
          PSNR that these other actions cause.
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

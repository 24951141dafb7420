"""Scores of dreams whose every pixel is known."""

import math

import pytest
import torch

from genie_gym.evaluation.metrics import BEST
from genie_gym.evaluation.scores import frame_scores


def shade(*levels: int) -> torch.Tensor:
    """One clip of 8 x 8 frames, each of one grey level."""
    return torch.tensor(levels, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(-1, -1, 8, 8, 3)


def decibels(levels: float) -> float:
    return -20 * math.log10(levels / 255)


def test_every_score_of_grey_frames_is_known():
    real = shade(100, 120).clone()
    real[..., :4, :, :] = 100  # the upper half never changes
    found = frame_scores(
        real,
        shade(100),
        dream=(real.int() + 2).to(torch.uint8),
        ceiling=(real.int() + 1).to(torch.uint8),
        astray={"_far": (real.int() + 20).to(torch.uint8), "": real},
    )
    assert all(score.shape == (1, 2) for score in found.values())
    numbers = {name: score[0].tolist() for name, score in found.items()}
    assert numbers["psnr"] == pytest.approx([decibels(2)] * 2, abs=1e-4)
    assert numbers["psnr_ceiling"] == pytest.approx([decibels(1)] * 2, abs=1e-4)
    assert numbers["psnr_copy"] == pytest.approx([BEST, decibels(20 / 2**0.5)], abs=1e-4)
    assert numbers["changed_psnr_copy"][1] == pytest.approx(decibels(20), abs=1e-4)
    assert numbers["delta_psnr_far"] == pytest.approx([20.0] * 2, abs=1e-4)
    assert numbers["delta_changed_psnr"][1] == pytest.approx(decibels(2) - BEST, abs=1e-4)
    nothing_changed = {name: math.isnan(score[0]) for name, score in numbers.items()}
    assert nothing_changed == {name: "changed" in name for name in numbers}

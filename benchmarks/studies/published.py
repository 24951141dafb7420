"""Scores that the workshop paper publishes for the CoinRun study."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """A model's FID, PSNR and SSIM on a test set, and its delta PSNR if published."""

    fid: float
    psnr: float
    ssim: float
    delta: float | None = None


PUBLISHED = {
    ("Basic", "Tokenizer"): Published(18.14, 38.25, 0.96),
    ("Basic", "LAM"): Published(37.01, 33.97, 0.92),
    ("Basic", "GenieRedux"): Published(21.88, 25.51, 0.77),
    ("Basic", "GenieRedux-G"): Published(18.88, 33.41, 0.92),
    ("Basic", "Tokenizer-TA"): Published(12.10, 39.53, 0.97),
    ("Basic", "LAM-TA"): Published(47.73, 28.24, 0.85),
    ("Basic", "GenieRedux-TA"): Published(13.26, 25.47, 0.82),
    ("Basic", "GenieRedux-G-TA"): Published(13.01, 32.09, 0.94),
    ("Diverse", "Tokenizer"): Published(19.13, 35.85, 0.94),
    ("Diverse", "Tokenizer-TA"): Published(11.63, 40.62, 0.97),
    ("Diverse", "GenieRedux"): Published(23.97, 23.82, 0.73),
    ("Diverse", "GenieRedux-G"): Published(19.51, 31.66, 0.90, 0.70),
    ("Diverse", "GenieRedux-TA"): Published(12.57, 31.97, 0.90),
    ("Diverse", "GenieRedux-G-TA"): Published(12.40, 34.44, 0.92, 1.89),
}

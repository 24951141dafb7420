"""Score longer dreams against real episodes with the same actions.

Shapes: B dreams, n frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from benchmarks.dreams.scores import KINDS, Picture, as_it_is
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import differing, frame_psnr
from genie_gym.evaluation.windows import draw_windows
from world_models.episodes import EpisodeDataset

__all__ = ["HORIZONS", "Horizon", "measure_horizon"]

HORIZONS = (1, 10, 25, 50, 100)
"""The frames that are scored, counted from 1."""


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """Scores of individual frames in longer dreams.

    Attributes:
        scores: Maps names to mean scores in dB at each of `horizons`; NaN where a score is not
            available for any dream.
        horizons: The frames that are scored.
    """

    scores: Mapping[str, list[float]]
    horizons: tuple[int, ...]

    def figures(self) -> dict[str, float]:
        """Return the results by name, omitting scores that are not available for any dream."""
        found = {
            f"horizon_{name}_{horizon}": value
            for name, values in self.scores.items()
            for horizon, value in zip(self.horizons, values, strict=True)
        }
        return {name: value for name, value in found.items() if value == value}


def measure_horizon(
    dreamer: Dreamer,
    episodes: EpisodeDataset,
    *,
    num: int,
    prompt: int,
    seed: int,
    clean: Picture = as_it_is,
) -> Horizon | None:
    """Score frames 1, 10, 25, 50 and 100 of dreams, as far as the longest episode reaches.

    Args:
        dreamer: Generates dreams with the world model.
        episodes: Real held-out episodes.
        num: Number of dreams.
        prompt: Number of real frames before a dream.
        seed: Seed for choosing the windows.
        clean: Function applied to all frames before comparison.

    Returns:
        The scores; None if no episode has 25 frames after the prompt.
    """
    longest = int(episodes.num_frames.max()) - prompt
    horizons = tuple(horizon for horizon in HORIZONS if horizon <= longest)
    if len(horizons) < 3:
        return None
    windows = draw_windows(episodes, num=num, prompt=prompt, steps=horizons[-1], seed=seed)
    if dreamer.model.latent_action is not None:
        windows = windows.with_latent_actions(dreamer.model.latent_action)
    index = torch.tensor(horizons) - 1
    dream = dreamer.dream(windows.prompt, windows.actions, windows.seeds).frames[:, index]
    ceiling = dreamer.reconstruct(windows.frames, prompt)[:, index + prompt]
    real, before = windows.real[:, index], windows.frames[:, index + prompt - 1]
    last = windows.prompt[:, -1:].expand_as(real)
    real, before, last, dream, ceiling = map(clean, (real, before, last, dream, ceiling))
    where = {
        "psnr": None,
        "changed_psnr": differing(real, last),
        "moving_psnr": differing(real, before),
    }
    scores = {
        name + ("" if kind == "dream" else f"_{kind}"): frame_psnr(frames, real, mask)
        for kind, frames in zip(KINDS, (dream, last, ceiling), strict=True)
        for name, mask in where.items()
    }
    return Horizon(
        scores={name: score.nanmean(0).tolist() for name, score in scores.items()},
        horizons=horizons,
    )

"""Score dreamed frames, each against the real frame at the same step.

Shapes: B windows, n dreamed frames, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import differing, frame_psnr, frame_ssim
from genie_gym.evaluation.scores import frame_scores
from genie_gym.evaluation.windows import Windows
from world_models.extras import require

__all__ = [
    "KINDS",
    "Clips",
    "Picture",
    "Scores",
    "as_it_is",
    "dream_clips",
    "other_actions",
    "score",
]

spearman_corrcoef = require(
    "torchmetrics.functional", extra="bench", what="scoring dreams needs torchmetrics"
).spearman_corrcoef
Picture = Callable[[Tensor], Tensor]
KINDS = ("dream", "copy", "ceiling")


@dataclass(frozen=True, kw_only=True)
class Clips:
    """The real frames of B windows, and generated frames to compare with them.

    All clips are uint8 ``(B, n, H, W, 3)``, unless a shape is given.

    Attributes:
        last: The last frame of the prompt, ``(B, 1, H, W, 3)``.
        real: The real frames.
        dream: The frames that the world model dreams with the same actions.
        ceiling: The real frames encoded and decoded by the tokenizer.
        random: A dream with all actions drawn at random.
        last_replaced: Frame t comes from a dream in which only the action that leads to frame t is
            replaced.
        uncertainty: The world model's uncertainty about each frame of `dream`, ``(B, n)``.
    """

    last: Tensor
    real: Tensor
    dream: Tensor
    ceiling: Tensor
    random: Tensor
    last_replaced: Tensor
    uncertainty: Tensor

    @property
    def copy(self) -> Tensor:
        """The prompt's last frame, repeated; its scores are the floor."""
        return self.last.expand_as(self.real)

    def of(self, kind: str) -> Tensor:
        """Return `dream`, `copy` or `ceiling`."""
        return {"dream": self.dream, "copy": self.copy, "ceiling": self.ceiling}[kind]


def as_it_is(frames: Tensor) -> Tensor:
    """Return the frames unchanged."""
    return frames


def dream_clips(
    dreamer: Dreamer, windows: Windows, num_actions: int, seed: int, clean: Picture = as_it_is
) -> tuple[Clips, float]:
    """Dream all windows with true and with other actions; return the clips and frames per second.

    The speed is measured with the true actions; the time includes the prompts.

    Args:
        dreamer: Generates dreams with the world model.
        windows: Windows from real episodes.
        num_actions: Size of the action set.
        seed: Seed of the random actions.
        clean: Function applied to all frames before comparison.
    """
    prompt, k = windows.prompt, windows.num_prompt
    before = windows.actions[:, : k - 1]
    random, others = other_actions(windows.dreamed_actions, num_actions, seed)
    few = slice(dreamer.batch_size)
    dreamer.dream(prompt[few], windows.actions[few, :k], windows.seeds[few])  # warms up
    begin = time.perf_counter()
    dream = dreamer.dream(prompt, windows.actions, windows.seeds)
    speed = dream.uncertainty.numel() / (time.perf_counter() - begin)
    astray = dreamer.dream(prompt, torch.cat((before, random), 1), windows.seeds)
    replaced = dreamer.last_replaced(prompt, windows.actions, others, windows.seeds)
    clips = Clips(
        last=clean(prompt[:, -1:]),
        real=clean(windows.real),
        dream=clean(dream.frames),
        ceiling=clean(dreamer.reconstruct(windows.frames, k)[:, k:]),
        random=clean(astray.frames),
        last_replaced=clean(replaced),
        uncertainty=dream.uncertainty,
    )
    return clips, speed


def other_actions(actions: Tensor, num_actions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return uniformly random actions, and random actions that differ from the true ones."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(num_actions, actions.shape, generator=generator)
    if num_actions == 1:
        return random, random
    shift = torch.randint(1, num_actions, actions.shape, generator=generator)
    return random, (actions + shift) % num_actions


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of every frame: name -> ``(B, n)``, with NaN if a frame has no pixel to score.

    * ``psnr``, ``ssim``, ``changed_psnr`` (over the pixels that differ from the prompt's last
      frame) and ``moving_psnr`` (over the pixels that differ from the previous real frame) score
      the dream.
    * The same names with ``_copy`` score the repeated last frame, and with ``_ceiling`` the
      tokenizer's reconstruction.
    * ``delta_psnr_genie`` and ``delta_psnr_last_action`` are the PSNR that the dream loses with
      other actions; ``delta_changed_psnr_...`` is the same loss over changed pixels.
    """

    frames: Mapping[str, Tensor]
    calibration: float
    calibration_within: float

    def mean(self, name: str) -> float:
        """Return the mean over all frames that have the score."""
        return float(self.frames[name].nanmean())

    def error(self, name: str) -> float:
        """Return the standard error of `mean` over windows."""
        return _standard_error(self.frames[name].nanmean(1))

    def error_at(self, name: str, step: int) -> float:
        """Return the standard error of the mean at `step`, counted from 1."""
        return _standard_error(self.frames[name][:, step - 1])

    def curve(self, name: str) -> list[float]:
        """Return the mean at each step."""
        return self.frames[name].nanmean(0).tolist()

    def figures(self) -> dict[str, float]:
        """Return all results by name, omitting scores that are not available for any frame.

        ``NAME`` is the mean over all frames and ``NAME_step{t}`` the mean at step t. Delta scores
        are given only per step: ``delta{t}_psnr_genie``.
        """
        found: dict[str, float] = {}
        for name in self.frames:
            steps = enumerate(self.curve(name), start=1)
            if name.startswith("delta_"):
                found |= {name.replace("delta_", f"delta{t}_", 1): value for t, value in steps}
            else:
                found[name] = self.mean(name)
                found |= {f"{name}_step{t}": value for t, value in steps}
        found["calibration_spearman"] = self.calibration
        found["calibration_spearman_within_step"] = self.calibration_within
        return {name: value for name, value in found.items() if value == value}


def score(clips: Clips) -> Scores:
    """Score every frame of all clips."""
    frames = frame_scores(
        clips.real,
        clips.last,
        dream=clips.dream,
        ceiling=clips.ceiling,
        astray={"_genie": clips.random, "_last_action": clips.last_replaced},
    )
    moving = differing(clips.real, torch.cat((clips.last, clips.real[:, :-1]), 1))
    for kind in KINDS:
        suffix = "" if kind == "dream" else f"_{kind}"
        frames["moving_psnr" + suffix] = frame_psnr(clips.of(kind), clips.real, moving)
        frames["ssim" + suffix] = frame_ssim(clips.of(kind), clips.real)
    return Scores(
        frames=frames,
        calibration=rank_correlation(clips.uncertainty, -frames["psnr"]),
        calibration_within=_within_steps(clips.uncertainty, -frames["psnr"]),
    )


def _standard_error(values: Tensor) -> float:
    values = values[~values.isnan()]
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")


def rank_correlation(uncertainty: Tensor, error: Tensor) -> float:
    """Return Spearman's rank correlation; NaN if either input is constant."""
    if len(uncertainty.unique()) < 2 or len(error.unique()) < 2:
        return float("nan")
    return float(spearman_corrcoef(uncertainty.flatten(), error.flatten()))


def _within_steps(uncertainty: Tensor, error: Tensor) -> float:
    """Return the rank correlation at each step, averaged, so that the step has no effect."""
    pairs = zip(uncertainty.unbind(1), error.unbind(1), strict=True)
    return float(torch.tensor([rank_correlation(u, e) for u, e in pairs]).nanmean())

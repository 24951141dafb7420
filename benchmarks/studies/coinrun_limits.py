"""Measure what limits CoinRun dreams, on the scripted runner's episodes in unseen levels.

It scores 10 frames after 1 real frame, with the velocity map covered:

* the dream, copying, and the tokenizer's ceiling;
* a ceiling without a residual (new content for patches): patches are only displaced;
* ceilings with a perfect residual: each displaced patch whose error exceeds a threshold is replaced
  by the real one (``perfect_3``: above 0.003);
* the dream and the ceiling, separately for pixels that were in view in the first frame (tracked by
  the camera's motion) and for pixels that came into view later;
* the dream for pixels that came into view, and the ceiling for all others ("best_seen").

Run: python -m benchmarks.studies.coinrun_limits [--world W] [--quick] [--json FILE]
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.dreams.heldout import collected
from benchmarks.report import Measured, named, run_benchmark, say
from genie_gym.envs.coinrun import paint_over_velocity_map
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.unseen import SEED
from genie_gym.evaluation.windows import draw_windows
from world_models.pixels import to_float
from world_models.tokenizers.motion.displacement import STILL, displace, match, most_common
from world_models.tokenizers.motion.tokenizer import MotionTokenizer

RUNNER = "agents.experts:coinrun"
STEPS, WINDOWS, QUICK_WINDOWS = 10, 256, 32
THRESHOLDS = (0.01, 0.003, 0.001)


def measure(given: Namespace) -> Measured:
    """Measure a world model of CoinRun."""
    world = open_world(given.world, "auto", "float32")
    tokenizer = world.model.tokenizer
    if not isinstance(tokenizer, MotionTokenizer):
        raise ValueError(f"{given.world} has no motion tokenizer")
    episodes = collected(world.card, episodes=64, max_steps=500, seed=SEED, policy=RUNNER)
    number = QUICK_WINDOWS if given.quick else WINDOWS
    windows = draw_windows(episodes, num=number, prompt=1, steps=STEPS, seed=0)
    real = windows.frames[:, 1:]
    dreamer = Dreamer(world.model, device=world.device)
    say("dreaming")
    shown = {
        "copy": windows.frames[:, :1].expand_as(real),
        "dream": dreamer.dream(windows.prompt, windows.actions, windows.seeds).frames,
        "ceiling": dreamer.reconstruct(windows.frames, 1)[:, -STEPS:],
    }
    say("replacing patches")
    frames, patch = _pixels(windows.frames), tokenizer.config.patch
    score: dict[str, Tensor] = {name: _errors(x, real) for name, x in shown.items()}
    shares = {}
    for threshold in (float("inf"), *THRESHOLDS):
        kept, share = _replaced(frames, patch, threshold)
        name = "displaced" if threshold == float("inf") else f"perfect_{1000 * threshold:.0f}"
        score[name], shares[name] = (kept - frames[:, 1:]).square().mean(2), share
    covered = _cover(torch.ones_like(real)).amax(-1) == 0
    weight = (~covered).float()
    figures = {f"psnr_{name}": _psnr(error, weight) for name, error in score.items()}
    figures |= {f"replaced_{name}": share for name, share in shares.items() if share}
    seen = _seen(frames, patch) * weight
    new = weight - seen
    figures["new_share"] = float(new.sum() / weight.sum())
    figures["new_share_step10"] = float(new[:, -1].sum() / weight[:, -1].sum())
    for name in ("copy", "dream", "ceiling"):
        figures[f"psnr_{name}_seen"] = _pooled(score[name], seen)
        figures[f"psnr_{name}_new"] = _pooled(score[name], new)
        figures[f"psnr_{name}_pooled"] = _pooled(score[name], weight)
    best = score["ceiling"] * seen + score["dream"] * new
    figures["psnr_best_seen_pooled"] = _pooled(best, weight)
    return figures, named([["figure", "value"], *figures.items()])


def _pixels(frames: Tensor) -> Tensor:
    """Return the pixels ``(B, T, C, H, W)`` in [0, 1], with the velocity map covered."""
    return to_float(_cover(frames))


def _cover(frames: Tensor) -> Tensor:
    return torch.from_numpy(paint_over_velocity_map(frames.numpy()))


def _errors(shown: Tensor, real: Tensor) -> Tensor:
    """Return the squared error of each pixel, ``(B, T, H, W)``."""
    return (_pixels(shown.contiguous()) - _pixels(real.contiguous())).square().mean(2)


def _each_frame(frames: Tensor, start: Tensor, step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply `step` to the last result and the next frame, repeatedly; return all results."""
    found, last = [], start
    for frame in frames[:, 1:].split(1, 1):
        last = step(last, frame)
        found.append(last)
    return torch.cat(found, 1)


@torch.no_grad()
def _replaced(frames: Tensor, patch: int, threshold: float) -> tuple[Tensor, float]:
    """Displace patches, and replace patches whose error exceeds the threshold by real ones."""
    shares: list[float] = []

    def step(last: Tensor, frame: Tensor) -> Tensor:
        found = match(frame, last, patch, threshold if threshold < 1 else 0.003)
        moved = displace(last, found.displacement, patch)
        wrong = found.error > threshold
        shares.append(float(wrong.float().mean()))
        return torch.where(_per_pixel(wrong, patch, frame.shape[-1]), frame, moved)

    kept = _each_frame(frames, frames[:, :1], step)
    return kept, sum(shares) / len(shares)


@torch.no_grad()
def _seen(frames: Tensor, patch: int) -> Tensor:
    """Mark with 1.0 the pixels ``(B, T, H, W)`` that the first frame shows, moved by the camera."""
    seen = torch.ones_like(frames[:, :1, :1])
    found = []
    for before, frame in zip(frames[:, :-1].split(1, 1), frames[:, 1:].split(1, 1), strict=True):
        camera = most_common(match(frame, before, patch, 0.003).displacement)
        tokens = camera[..., None].expand(-1, -1, (frames.shape[-1] // patch) ** 2)
        # Displacing repeats the outermost pixels beyond the border, so these count as unseen.
        framed = seen.clone()
        for edge in (framed[..., :1, :], framed[..., -1:, :], framed[..., :1], framed[..., -1:]):
            edge.zero_()
        still = camera == STILL
        seen = torch.where(still[..., None, None, None], seen, displace(framed, tokens, patch))
        found.append(seen)
    return torch.cat(found, 1).squeeze(2)


def _per_pixel(marks: Tensor, patch: int, size: int) -> Tensor:
    grid = marks.unflatten(-1, (size // patch, size // patch))
    return grid.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, None]


def _psnr(error: Tensor, weight: Tensor) -> float:
    """Return the mean PSNR of the frames in dB."""
    mean = (error * weight).sum((-2, -1)) / weight.sum((-2, -1))
    return float((-10 * mean.clamp(min=1e-6).log10()).mean())


def _pooled(error: Tensor, weight: Tensor) -> float:
    """Return the PSNR in dB of the mean error over all pixels."""
    return float(-10 * ((error * weight).sum() / weight.sum()).log10())


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--world", default="CoinRun", help="name or path of the world")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark(
        "studies.coinrun_limits",
        measure,
        argv,
        about=__doc__,
        options=options,
        quick=f"{QUICK_WINDOWS} windows",
    )


if __name__ == "__main__":
    sys.exit(main())

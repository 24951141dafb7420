"""Check memory use, NaNs and image statistics of long dreams with random resets.

Run: python -m benchmarks.studies.dream_soak [--world W] [--frames N] [--quick] [--json FILE]
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Measured, run_benchmark
from genie_gym.envs.genie import GenieVectorEnv

FRAMES, QUICK_FRAMES = 100_000, 5_000
NUM_ROWS = 16
RESET_CHANCE = 0.02  # probability per sub-env and step
BLOCK = 1_000
WARM_UP = 0.05  # fraction of the frames after which memory must stop growing


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """Measurements of a long dream.

    Attributes:
        looks: Brightness, contrast and change per step of each block of a thousand frames, in grey
            levels, ``(blocks, 3)``.
        memory: Resident bytes after each thousand frames, ``(blocks,)``.
        resets: Number of sub-env resets.
        not_finite: Number of rewards and entropies that are not finite.
    """

    looks: NDArray[np.float64]
    memory: NDArray[np.int64]
    resets: int
    not_finite: int

    def memory_growth(self) -> float:
        """Return the peak memory after warm-up, relative to the memory at its end, minus 1."""
        settled = self.memory[int(WARM_UP * len(self.memory)) :]
        return float(settled.max() / settled[0] - 1)

    def drift(self) -> NDArray[np.float64]:
        """Return each statistic's relative change from the first to the last thousand frames."""
        return self.looks[-1] / self.looks[0] - 1

    def spread(self) -> NDArray[np.float64]:
        """Return each statistic's standard deviation over the blocks, divided by its mean."""
        return self.looks.std(0) / self.looks.mean(0)


def soak(env: GenieVectorEnv, num_frames: int, seed: int = 0) -> Soaked:
    """Play random actions and reset random sub-envs."""
    rng = np.random.default_rng(seed)
    steps_per_block = -(-BLOCK // env.num_envs)
    looks, memory, resets, not_finite = [], [], 0, 0
    frames, _ = env.reset(seed=seed)
    for _ in range(num_frames // BLOCK):
        block = []
        for _ in range(steps_per_block):
            before = frames
            frames, rewards, _, _, infos = env.step(
                rng.integers(len(env.actions), size=len(frames))
            )
            block.append(_look(frames, before))
            not_finite += int((~np.isfinite([rewards, infos["entropy"]])).sum())
            if (mask := rng.random(len(frames)) < RESET_CHANCE).any():
                frames, _ = env.reset(options={"reset_mask": mask})
                resets += int(mask.sum())
        looks.append(np.mean(block, 0))
        memory.append(_resident_bytes())
    return Soaked(
        looks=np.array(looks),
        memory=np.array(memory),
        resets=resets,
        not_finite=not_finite,
    )


def _look(frames: NDArray[np.uint8], before: NDArray[np.uint8]) -> tuple[float, float, float]:
    change = np.abs(frames.astype(np.int16) - before).mean()
    return float(frames.mean()), float(frames.std(axis=(1, 2, 3)).mean()), float(change)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _summary(env: GenieVectorEnv, soaked: Soaked) -> Measured:
    figures = {
        "frames": float(len(soaked.looks) * BLOCK),
        "rss_growth": soaked.memory_growth(),
        "not_finite": float(soaked.not_finite),
        "brightness_drift": float(soaked.drift()[0]),
        "contrast_drift": float(soaked.drift()[1]),
        "change_drift": float(soaked.drift()[2]),
        "change_spread": float(soaked.spread()[2]),
        "world_parameters": float(sum(weight.numel() for weight in env.model.parameters())),
    }
    rows: list[dict[str, Any]] = [
        {
            "frames": (block + 1) * BLOCK,
            "brightness": f"{soaked.looks[block, 0]:.1f}",
            "contrast": f"{soaked.looks[block, 1]:.1f}",
            "change per step": f"{soaked.looks[block, 2]:.2f}",
            "MiB": soaked.memory[block] >> 20,
        }
        for block in np.linspace(0, len(soaked.looks) - 1, 11).round().astype(int)
    ]
    return figures, rows


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--world", default="CoinRun", help="name or path of the world")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames, a multiple of 1000")


def measure(given: Namespace) -> Measured:
    env = GenieVectorEnv(given.world, NUM_ROWS, max_episode_steps=None)
    soaked = soak(env, QUICK_FRAMES if given.quick else given.frames)
    return _summary(env, soaked)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    quick = f"only {QUICK_FRAMES} frames"
    return run_benchmark(
        "studies.dream_soak", measure, argv, about=__doc__, options=options, quick=quick
    )


if __name__ == "__main__":
    main()

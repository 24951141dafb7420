"""Evaluates a world on held-out episodes: image quality and how much the actions matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.scores import DELTA_STEP, frame_scores
from genie_gym.evaluation.windows import draw_windows
from world_models.episodes import EpisodeDataset

__all__ = ["WorldEvaluationConfig", "evaluate_world"]


@dataclass(frozen=True, kw_only=True)
class WorldEvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        windows: Number of windows, sampled from the held-out episodes.
        prompt: Real frames at the start of each window.
        steps: Frames to predict after the prompt.
        seed: Seed of the windows, the predictions and the random actions.
    """

    windows: int = 256
    prompt: int = 2
    steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.windows, self.prompt) < 1 or self.steps < DELTA_STEP:
            raise ValueError(
                f"windows and prompt must be at least 1 and steps at least {DELTA_STEP}, got "
                f"windows={self.windows}, prompt={self.prompt}, steps={self.steps}"
            )


def evaluate_world(
    world: str | Path, data: Path, config: WorldEvaluationConfig
) -> dict[str, float]:
    """Predicts windows of real play and compares the predicted with the real frames.

    Args:
        world: Name or path of the world.
        data: A dataset that the world was not trained on.
        config: Settings of the evaluation.

    Returns:
        Means in dB. ``psnr`` covers all pixels of the predicted frames, ``changed_psnr`` only
        pixels that differ from the last prompt frame. The suffix ``_copy`` scores the repeated
        last prompt frame, ``_ceiling`` the tokenizer's reconstruction of the real frames.
        ``delta_psnr`` and ``delta_changed_psnr`` are the loss at the 4th frame when the actions
        are random.
    """
    loaded = open_world(world, dtype="float32")
    dreamer = Dreamer(loaded.model, device=loaded.device)
    windows = draw_windows(
        EpisodeDataset(data),
        num=config.windows,
        prompt=config.prompt,
        steps=config.steps,
        seed=config.seed,
    )
    generator = torch.Generator().manual_seed(config.seed)
    random = torch.randint(len(loaded.actions), windows.actions.shape, generator=generator)
    given = config.prompt - 1
    random[:, :given] = windows.actions[:, :given]

    def dream(actions: Tensor) -> Tensor:
        return dreamer.dream(windows.prompt, actions, windows.seeds).frames

    scores = frame_scores(
        windows.real,
        windows.prompt[:, -1:],
        dream=dream(windows.actions),
        ceiling=dreamer.reconstruct(windows.frames, config.prompt)[:, config.prompt :],
        astray={"": dream(random)},
    )
    for name in ("delta_psnr", "delta_changed_psnr"):
        scores[name] = scores[name][:, [DELTA_STEP - 1]]
    return {name: float(score.nanmean()) for name, score in scores.items()}

"""Evaluates a world model on held-out episodes: image quality and how much actions matter."""

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
        windows: Number of windows (short clips) that are sampled from the held-out episodes.
        prompt: Number of real frames at the start of each window.
        steps: Number of frames to predict after the prompt.
        seed: Seed for the windows, the predictions and the random actions.
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
    """Predicts frames in windows of real episodes and compares them with the real frames.

    Args:
        world: Name or path of the world model.
        data: A dataset that the world model was not trained on.
        config: Settings of the evaluation.

    Returns:
        Mean scores in dB:

        * ``psnr`` covers all pixels of the predicted frames. ``changed_psnr`` covers only pixels
          that differ from the last prompt frame.
        * Names with the suffix ``_copy`` score the repeated last prompt frame instead of the
          prediction. Names with the suffix ``_ceiling`` score the tokenizer's reconstruction of
          the real frames.
        * ``delta_psnr`` and ``delta_changed_psnr`` are the decrease of the scores at the 4th frame
          when the actions are random.
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

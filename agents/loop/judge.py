"""How close a world comes to episodes it never saw, and whether it obeys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genie_gym.envs.loaded_worlds import open_world
from world_models.episodes import EpisodeDataset
from world_models.evaluation.dreamer import Dreamer
from world_models.evaluation.scores import DELTA_STEP, frame_scores
from world_models.evaluation.windows import draw_windows

__all__ = ["JudgeConfig", "judge"]


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """What is judged.

    Attributes:
        windows: Stretches of play.
        prompt: Real frames given.
        steps: Frames predicted.
        seed: Of the choice of windows, the predictions, and the random actions.
    """

    windows: int = 256
    prompt: int = 2
    steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.windows, self.prompt) < 1 or self.steps < DELTA_STEP:
            raise ValueError(
                f"expected windows and prompt of at least 1 and steps of at least {DELTA_STEP}, "
                f"got {self.windows}, {self.prompt} and {self.steps}"
            )


def judge(world: str | Path, data: Path, config: JudgeConfig) -> dict[str, float]:
    """Dreams stretches of real play and compares.

    Args:
        world: Name or path of the world.
        data: A dataset that it was not trained on.
        config: How much.

    Returns:
        In dB: ``psnr`` of all predicted frames, ``changed_psnr`` of the pixels that differ from
        the last given frame, both also for copying that frame (``_copy``) and for the real frames
        through the tokenizer (``_ceiling``); ``delta_psnr`` and ``delta_changed_psnr``: how much
        is lost at the 4th frame with random actions.
    """
    loaded = open_world(world)
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

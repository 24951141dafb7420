"""How close a world comes to episodes it never saw, and whether it obeys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genie_gym.envs.loaded_worlds import open_world
from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.metrics import differing, frame_psnr
from world_models.world import WorldModel

__all__ = ["JudgeConfig", "judge"]

_AT_ONCE = 16
_CONTROL_STEP = 4  # the frame at which the papers say how much the actions matter


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
        if min(self.windows, self.prompt) < 1 or self.steps < _CONTROL_STEP:
            raise ValueError(
                f"expected windows and prompt of at least 1 and steps of at least {_CONTROL_STEP}, "
                f"got {self.windows}, {self.prompt} and {self.steps}"
            )


@torch.no_grad()
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
    model, device = loaded.model, loaded.device
    length = config.prompt + config.steps
    episodes = EpisodeDataset(data)
    sampler = WindowSampler(
        episodes.num_frames, length=length, batch_size=config.windows, seed=config.seed
    )
    batch = episodes.batch(sampler.batch(0), length)
    frames, actions = torch.from_numpy(batch["frames"]), torch.from_numpy(batch["actions"]).long()
    generator = torch.Generator().manual_seed(config.seed)
    random = torch.randint(len(loaded.actions), actions.shape, generator=generator)
    random[:, : config.prompt - 1] = actions[:, : config.prompt - 1]
    seeds = torch.arange(len(frames))
    columns: dict[str, list[Tensor]] = {}
    for rows in torch.arange(len(frames)).split(_AT_ONCE):
        shown = [x[rows].to(device) for x in (frames, actions, random, seeds)]
        for name, value in _scores(model, *shown, num_prompt=config.prompt).items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: float(torch.cat(values).nanmean()) for name, values in columns.items()}


def _scores(
    model: WorldModel,
    frames: Tensor,
    actions: Tensor,
    random: Tensor,
    seeds: Tensor,
    *,
    num_prompt: int,
) -> dict[str, Tensor]:
    prompt, real = frames[:, :num_prompt], frames[:, num_prompt:]
    last = prompt[:, -1:].expand_as(real)
    changed = differing(real, last)
    predicted = {
        "": model.rollout(prompt, actions, seeds).frames,
        "_copy": last,
        "_ceiling": model.tokenizer.reconstruct(frames, given=num_prompt)[:, num_prompt:],
    }
    found = {}
    for kind, shown in predicted.items():
        found[f"psnr{kind}"] = frame_psnr(shown, real)
        found[f"changed_psnr{kind}"] = frame_psnr(shown, real, changed)
    astray = model.rollout(prompt, random, seeds).frames
    for name, where in (("psnr", None), ("changed_psnr", changed)):
        lost = found[name] - frame_psnr(astray, real, where)
        found[f"delta_{name}"] = lost[:, _CONTROL_STEP - 1]
    return found

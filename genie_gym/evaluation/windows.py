"""Windows of real episodes to compare dreams with.

Shapes: B windows, k prompt frames, n frames to generate, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.model.latent_action import LatentActionModel

__all__ = ["Windows", "draw_windows"]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """B windows of real episodes, each with k prompt frames and n frames to compare a dream with.

    Attributes:
        frames: uint8 ``(B, k + n, H, W, 3)``.
        actions: int64 ``(B, k + n - 1)``; ``actions[:, t]`` leads from frame t to frame t + 1.
        num_prompt: Number of prompt frames, k.
    """

    frames: Tensor
    actions: Tensor
    num_prompt: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def prompt(self) -> Tensor:
        """The prompt frames ``(B, k, H, W, 3)``."""
        return self.frames[:, : self.num_prompt]

    @property
    def real(self) -> Tensor:
        """The real frames after the prompt, ``(B, n, H, W, 3)``."""
        return self.frames[:, self.num_prompt :]

    @property
    def num_steps(self) -> int:
        """Number of frames to generate, n."""
        return self.frames.shape[1] - self.num_prompt

    @property
    def dreamed_actions(self) -> Tensor:
        """The actions ``(B, n)`` that lead to the frames of `real`."""
        return self.actions[:, self.num_prompt - 1 :]

    @property
    def seeds(self) -> Tensor:
        """One seed per window, int64 ``(B,)``."""
        return torch.arange(len(self))

    def rows(self, index: Tensor) -> Windows:
        """Return the windows at `index`."""
        return replace(self, frames=self.frames[index], actions=self.actions[index])

    def with_latent_actions(self, model: LatentActionModel) -> Windows:
        """Return the same windows with the latent actions that a model infers between frames."""
        device = next(model.parameters()).device
        parts = self.frames.split(16)
        actions = torch.cat([model.actions(part.to(device)).cpu() for part in parts])
        return replace(self, actions=actions)


def draw_windows(
    episodes: EpisodeDataset, *, num: int, prompt: int, steps: int, seed: int
) -> Windows:
    """Draw random windows; all windows are equally likely."""
    sampler = WindowSampler(episodes.num_frames, length=prompt + steps, batch_size=num, seed=seed)
    batch = episodes.batch(sampler.batch(0), prompt + steps)
    return Windows(
        frames=torch.from_numpy(batch["frames"]),
        actions=torch.from_numpy(batch["actions"]),
        num_prompt=prompt,
    )

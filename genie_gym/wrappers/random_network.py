"""Novelty without a world model: random network distillation (Burda et al., 2018).

The score is the error of a network that learns to predict the output of a fixed random network. It
is a baseline for the rewards that use a world model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["RandomNetworkMeter"]


class RandomNetworkMeter(nn.Module):
    """Scores frames by their novelty; in training mode it also trains on each frame it scores.

    A score is the squared prediction error divided by the running root mean square of these
    errors. New frames score about 1 at first; familiar frames score less and less.

    Args:
        num_features: Output dimension of both networks.
        learning_rate: Learning rate of the learned network; in training mode, each call of `score`
            takes one optimizer step.
        seed: Seed of both networks.
        device: Device to compute on; "auto" uses a GPU if there is one.
    """

    name = "novelty"
    scale: Tensor
    steps: Tensor

    def __init__(
        self,
        *,
        num_features: int = 128,
        learning_rate: float = 1e-4,
        seed: int = 0,
        device: str = "auto",
    ):
        super().__init__()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.target = _network(num_features).requires_grad_(False)
            self.guess = _network(num_features)
        self.register_buffer("scale", torch.zeros(()))  # running mean of squared errors
        self.register_buffer("steps", torch.zeros(()))
        self.to(device)
        self.optimizer = torch.optim.Adam(self.guess.parameters(), lr=learning_rate)

    def begin(self, rows: NDArray[np.intp], frames: Any) -> None:
        """Does nothing: novelty does not depend on episodes."""

    def score(self, rows: NDArray[np.intp], actions: Any, frames: Any) -> NDArray[np.float64]:
        """Returns the novelty of each frame ``(rows, H, W, 3)``; in training mode, also trains."""
        if not len(rows):
            return np.zeros(0)
        pixels = torch.as_tensor(frames).to(self.scale.device).permute(0, 3, 1, 2).float()
        pixels = pixels / 127.5 - 1
        with torch.set_grad_enabled(self.training):
            error = (self.guess(pixels) - self.target(pixels)).square().mean(1)
        found = error.detach()
        if self.training:
            self.optimizer.zero_grad()
            error.mean().backward()
            self.optimizer.step()
            self.steps += 1
            self.scale += (found.square().mean() - self.scale) / self.steps
        return (found / self.scale.sqrt().clamp(min=1e-8)).double().cpu().numpy()


def _network(num_features: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 8, stride=4),
        nn.LeakyReLU(),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.LeakyReLU(),
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(),
        nn.Linear(800, num_features),
    )

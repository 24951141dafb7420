"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Ema"]


class Ema:
    """A copy of a model whose weights are an exponential moving average of the model's weights.

    `decay` is the decay per step, in [0, 1); with 0, the copy always has the current weights. In
    the first steps the decay is smaller, so that the average forgets the initialisation.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average after the training step with number `step`. Steps count from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in averaged.items() if value.is_floating_point()]
        average = get_ema_multi_avg_fn(decay)
        average([averaged[name] for name in floats], [current[name] for name in floats], None)
        for name in averaged.keys() - set(floats):
            averaged[name].copy_(current[name])

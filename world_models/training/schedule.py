"""The learning rate as a pure function of the step: a checkpoint need not hold it."""

from __future__ import annotations

import math

from world_models.training.config import FitConfig

__all__ = ["learning_rate"]


def learning_rate(config: FitConfig, step: int) -> float:
    """Linear warm-up from 0, then a cosine down to the minimum; steps count from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * ((step + 1) / config.warmup_steps)
    decay_steps = max(1, config.steps - 1 - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / decay_steps)
    share = (1 + math.cos(math.pi * progress)) / 2
    return config.min_learning_rate + share * (config.learning_rate - config.min_learning_rate)

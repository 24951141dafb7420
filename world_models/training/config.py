"""The optimisation settings that all models have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["FitConfig"]

WARM_UP = 0.1  # the warm-up takes at most this fraction of a time limit


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings for AdamW. The learning rate warms up linearly from 0, then decays as a cosine.

    Attributes:
        steps: Number of optimiser steps.
        minutes: Time limit in minutes; None for no limit. Training ends after `steps` or after this
            time, whichever comes first. The learning rate decays with the used fraction of the
            steps or of the time, whichever is larger.
        batch_size: Number of training windows per process and step.
        learning_rate: Peak learning rate, reached after the warm-up.
        min_learning_rate: Learning rate at the last step.
        warmup_steps: Number of warm-up steps.
        ema_decay: Decay per step of the averaged weights (EMA), in [0, 1). The averaged weights are
            the ones that are evaluated and published. 0 turns averaging off.
        precision: "bf16" computes in bfloat16 where autocast allows it; weights stay float32.
            "auto" means "bf16" if the device is faster in bfloat16, otherwise "fp32".
        seed: Seed for the order of the data and for all noise.
        save_every: Number of steps between checkpoints. Each checkpoint is evaluated.
    """

    steps: int = 10_000
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 3e-4
    min_learning_rate: float = 3e-5
    warmup_steps: int = 200
    ema_decay: float = 0.999
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    save_every: int = 1_000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be positive, or None for no limit, got {self.minutes}")
        if not 0 < self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                "expected 0 < min_learning_rate <= learning_rate, got "
                f"{self.min_learning_rate} and {self.learning_rate}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f'precision must be "auto", "fp32" or "bf16", got {self.precision!r}')

    def learning_rate_at(self, step: int, used: float = 0.0) -> float:
        """Return the learning rate at a step. Steps count from 0.

        `used` is the used fraction of the time limit. If it is larger than the used fraction of the
        steps, it determines the warm-up and the decay instead of `step`. After the last step, the
        learning rate stays at the minimum.
        """
        if step < self.warmup_steps and used < WARM_UP:
            return self.learning_rate * max((step + 1) / self.warmup_steps, used / WARM_UP)
        decay_steps = max(1, self.steps - 1 - self.warmup_steps)
        progress = min(1.0, max((step - self.warmup_steps) / decay_steps, used))
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.min_learning_rate + share * (self.learning_rate - self.min_learning_rate)

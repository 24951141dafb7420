"""The settings of the optimisation, which all models share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["FitConfig"]

WARM_UP = 0.1  # largest fraction of a time limit that the warm-up takes


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of AdamW: linear warm-up from 0, then cosine decay.

    Attributes:
        steps: Optimiser steps.
        minutes: Time limit. Training ends after `steps` or after this time, whichever comes first.
            The learning rate decays with the larger of the fractions of steps and time used.
        batch_size: Windows per process and step.
        learning_rate: Peak learning rate, reached after the warm-up.
        min_learning_rate: Learning rate at the last step.
        warmup_steps: Steps of the warm-up.
        ema_decay: Decay per step of the averaged weights (EMA), in [0, 1). The averaged weights are
            evaluated and published. 0 turns averaging off.
        precision: "bf16" computes in bfloat16 where autocast allows it; weights stay float32.
            "auto" means "bf16" if the device is faster in bfloat16, otherwise "fp32".
        seed: Seed of the data order and of all noise.
        save_every: Steps between checkpoints. Each checkpoint is evaluated.
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
        """The learning rate of a step (from 0). After the last step it stays at the minimum.

        If the fraction `used` of the time limit is larger than the fraction of the steps, it
        determines the warm-up and the decay instead.
        """
        if step < self.warmup_steps and used < WARM_UP:
            return self.learning_rate * max((step + 1) / self.warmup_steps, used / WARM_UP)
        decay_steps = max(1, self.steps - 1 - self.warmup_steps)
        progress = min(1.0, max((step - self.warmup_steps) / decay_steps, used))
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.min_learning_rate + share * (self.learning_rate - self.min_learning_rate)

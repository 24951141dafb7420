"""Computes the validation loss, on the same windows and with the same noise at every checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Loss", "evaluator", "evenly_spaced"]

Loss = Callable[[Any, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""Maps a model and a batch to the loss and metrics."""


def evenly_spaced(places: np.ndarray, num: int) -> np.ndarray:
    """Select at most `num` entries of `places`, evenly spaced."""
    return places[np.linspace(0, len(places) - 1, min(num, len(places))).astype(int)]


def evaluator(
    loss: Loss,
    fetch: Callable[[np.ndarray], dict[str, Tensor]],
    places: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function that computes a model's mean metrics over validation windows.

    Each entry of `places` is the position of a window, and `fetch` loads windows as a batch.
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        totals: dict[str, float] = {}
        torch.manual_seed(0)  # safe: the training loop seeds torch again at each step
        for begin in range(0, len(places), batch_size):
            batch = fetch(places[begin : begin + batch_size])
            rows = len(batch["actions"])
            batch["seeds"] = torch.arange(begin, begin + rows)
            cost, metrics = loss(model, {k: v.to(device) for k, v in batch.items()})
            for name, value in {**metrics, "loss": cost}.items():
                totals[name] = totals.get(name, 0.0) + float(value) * rows / len(places)
        return totals

    return evaluate

"""The validation loss: the same windows and the same noise at every checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["evaluator", "spread"]


def spread(places: np.ndarray, num: int) -> np.ndarray:
    """At most `num` of the rows, evenly spaced."""
    return places[np.linspace(0, len(places) - 1, min(num, len(places))).astype(int)]


def evaluator(
    fetch: Callable[[np.ndarray], dict[str, Tensor]],
    places: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function from a model to its mean metrics.

    Args:
        fetch: Turns rows of `places` into a batch.
        places: The windows.
        batch_size: Windows at a time.
        device: Where the model is.
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        totals: dict[str, float] = {}
        torch.manual_seed(0)  # the loop seeds anew at each step
        for begin in range(0, len(places), batch_size):
            batch = fetch(places[begin : begin + batch_size])
            rows = len(batch["actions"])
            batch["seeds"] = torch.arange(begin, begin + rows)
            loss, metrics = model.loss({k: v.to(device) for k, v in batch.items()})  # type: ignore[operator]
            for name, value in {**metrics, "loss": loss}.items():
                totals[name] = totals.get(name, 0.0) + float(value) * rows / len(places)
        return totals

    return evaluate

"""What a world model predicts.

Shapes: B rows of a batch, n generated frames, N tokens per frame, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["Prediction", "Rollout"]


@dataclass(frozen=True)
class Prediction:
    """The next frame of B rows, with reward and termination.

    Attributes:
        frames: The frames, uint8 ``(B, H, W, 3)``.
        tokens: The frames' tokens, int64 ``(B, N)``.
        entropy: Entropy of each token's distribution before any token of the frame was known, in
            nats, ``(B, N)``.
        reward: Expected reward for the action that led to the frame, ``(B,)``; rounded to a reward
            of the game if the world model has a list of them.
        termination: Probability that this action ended the episode, ``(B,)``.
        passes: Number of sampling passes, ``(B,)``; 0 for real frames.
        surprise: Negative log-probability that the model had predicted for each token of the real
            frame, in nats, ``(B, N)``; None for imagined frames.
    """

    frames: Tensor
    tokens: Tensor
    entropy: Tensor
    reward: Tensor
    termination: Tensor
    passes: Tensor
    surprise: Tensor | None = None

    @classmethod
    def cat(cls, parts: Sequence[Prediction]) -> Prediction:
        """Concatenate predictions along the batch axis."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        known = {name: x for name, x in columns.items() if x[0] is not None}
        return cls(**{name: torch.cat(x) for name, x in known.items()})


@dataclass(frozen=True)
class Rollout:
    """The next n frames of B rows.

    The fields are those of `Prediction` with an additional axis for the frames, ``(B, n, ...)``.
    `reward` and `termination` are None if the frames were sampled jointly.
    """

    frames: Tensor
    tokens: Tensor
    entropy: Tensor
    reward: Tensor | None = None
    termination: Tensor | None = None

"""The token space: what a dynamics model must know about a tokenizer's tokens.

Shapes: B batch, T frames, N tokens per frame; a frame has height H, width W and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["NO_ACTION", "Clip", "SamplingConfig", "TokenSpace"]

NO_ACTION = -1  # stands for the action before the first frame of a sequence


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings for dreams. All except `carried_frames` control how a frame's tokens are sampled.

    Sampling works as in MaskGIT.

    Attributes:
        steps: Maximum number of passes per frame. They follow a cosine schedule.
        temperature: Softmax temperature. 0 takes the most likely token.
        threshold: Tokens with at least this probability, in [0, 1], are unmasked ahead of the
            schedule. Sampling ends when no token is masked, so easy frames take one or two passes.
            At 1 every frame takes all passes.
        redraw: Each pass samples all tokens again, including unmasked ones. The schedule is one
            pass ahead, so that the last pass sees no masked token. Requires threshold 1.
        carried_frames: When a dream has used all positions of a dynamics model with a `horizon`,
            this many of the dream's last frames are encoded again as the beginning of a new clip.
            World models without a `horizon` ignore this setting.
    """

    steps: int = 8
    temperature: float = 1.0
    threshold: float = 1.0
    redraw: bool = False
    carried_frames: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0, got {self.temperature}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {self.threshold}")
        if self.carried_frames < 1:
            raise ValueError(f"carried_frames must be at least 1, got {self.carried_frames}")
        if self.redraw and self.threshold < 1:
            raise ValueError(
                "redraw samples all tokens again in each pass, so it requires threshold 1, got "
                f"{self.threshold}"
            )


@dataclass(frozen=True, kw_only=True)
class TokenSpace:
    """The tokens that a tokenizer produces and a dynamics model predicts.

    Attributes:
        grid: Number of tokens along the height and width of a frame, (h, w).
        num_codes: Codebook size K. Token ids are 0 to K - 1; K itself stands for a masked token.
        code_dim: Dimension of each code's vector.
        neutral: The token that means "no change", if tokens describe changes from one frame to the
            next. Then all sampling passes use the same temperature. None if tokens describe a frame
            by itself.
        group_start: All token ids from this one on form a group. Sampling first draws either the
            group or one of the other ids, and then, for the group, one of its members. Without a
            group, a low temperature would never draw one of many unlikely alternatives. None means
            that there is no group.
        patch: Height and width in pixels of the patches in which the dynamics model also sees the
            previous frame. 0 means that the model sees only tokens.
        sampling: How these tokens are sampled by default.
    """

    grid: tuple[int, int]
    num_codes: int
    code_dim: int
    neutral: int | None = None
    group_start: int | None = None
    patch: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def num_tokens(self) -> int:
        """Number of tokens per frame, N."""
        return self.grid[0] * self.grid[1]

    @property
    def mask_token(self) -> int:
        """The id that stands for a masked token."""
        return self.num_codes

    def changed(self, previous: Tensor, tokens: Tensor) -> Tensor:
        """Mark the tokens whose patch of the frame has changed since the previous frame.

        `previous` holds the previous frame's tokens.
        """
        differs = previous != tokens
        return differs if self.neutral is None else differs | (tokens != self.neutral)


class Clip(NamedTuple):
    """Successive frames as a dynamics model sees them.

    Attributes:
        tokens: Tokens of the frames, ``(B, T, N)``; some may be masked.
        actions: Actions between the frames, ``(B, T - 1)``.
        previous_frames: The frame before each frame, uint8 ``(B, T, H, W, C)``; None if the token
            space has no `patch`.
    """

    tokens: Tensor
    actions: Tensor
    previous_frames: Tensor | None = None

    @property
    def leading_actions(self) -> Tensor:
        """The action that led to each frame, ``(B, T)``: `NO_ACTION` for the first frame."""
        first = torch.full_like(self.actions[:, :1], NO_ACTION)
        return torch.cat((first, self.actions), 1)

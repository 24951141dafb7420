"""What an objective has to say.

Shapes: B batch, T frames, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from world_models.model.kv_cache import KVCache
from world_models.model.losses import DynamicsLossConfig, Metrics

if TYPE_CHECKING:
    from world_models.model.dynamics import Dynamics

__all__ = ["NextFrame", "Objective"]


class NextFrame(Protocol):
    """The next frame of B rows while it is sampled; their past and action are known."""

    def logits(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Predict the frame.

        Args:
            tokens: Of the frame as far as they are known, masked elsewhere, ``(R, N)``.
            rows: Which R of the B rows these are.

        Returns:
            Logits ``(R, N, K)``.
        """

    def commit(self, tokens: Tensor) -> tuple[KVCache, Tensor, Tensor]:
        """Make the frame part of the past.

        Args:
            tokens: All of its tokens ``(B, N)``.

        Returns:
            The past, the reward ``(B,)``, the probability of termination ``(B,)``.
        """


class Objective(Protocol):
    """A way to train a dynamics, and to dream with it."""

    def loss(
        self, dynamics: Dynamics, batch: dict[str, Tensor], config: DynamicsLossConfig
    ) -> tuple[Tensor, Metrics]:
        """The loss of a batch; see `Dynamics.loss`."""

    def outcome_states(
        self, dynamics: Dynamics, tokens: Tensor, actions: Tensor, previous_frames: Tensor | None
    ) -> Tensor:
        """What the outcome head reads of frames 1.. in a dream, ``(B, T - 1, N, D)``.

        Args:
            dynamics: The model.
            tokens: ``(B, T, N)``, nothing masked.
            actions: Between them, ``(B, T - 1)``.
            previous_frames: See `Dynamics.loss`.
        """

    def joint_logits(
        self,
        dynamics: Dynamics,
        tokens: Tensor,
        actions: Tensor,
        previous_frames: Tensor | None,
        num_ahead: int,
    ) -> Tensor:
        """Predict several frames in one pass over the whole sequence, as the paper evaluates.

        Args:
            dynamics: The model.
            tokens: ``(B, T, N)``; the last `num_ahead` frames are masked in part or whole.
            actions: Between them, ``(B, T - 1)``.
            previous_frames: See `Dynamics.loss`.
            num_ahead: How many frames are predicted.

        Returns:
            Logits ``(B, num_ahead, N, K)``.
        """

    def first_frame(self, dynamics: Dynamics, cache: KVCache, frames: Tensor) -> NextFrame:
        """The first frame of rows that have no past.

        Args:
            dynamics: The model.
            cache: An empty one; written in place.
            frames: The frame itself, uint8 ``(B, H, W, C)``.
        """

    def next_frame(
        self, dynamics: Dynamics, cache: KVCache, tokens: Tensor, actions: Tensor, frames: Tensor
    ) -> NextFrame:
        """Look one frame ahead.

        Args:
            dynamics: The model.
            cache: The past; written in place.
            tokens: Of the last frame, ``(B, N)``.
            actions: Lead from there to the next frame, ``(B,)``.
            frames: The last frame, uint8 ``(B, H, W, C)``.
        """

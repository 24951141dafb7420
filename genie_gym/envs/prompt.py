"""The prompt of a dream: the real frames and actions that a world model continues from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prompt", "read_prompt"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The real frames and actions that each row (sub-env) continues with generated frames.

    Attributes:
        frames: The first k frames of each row, uint8 ``(rows, k, H, W, 3)``.
        actions: The actions between these frames, int64 ``(rows, k - 1)``.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]


def read_prompt(
    options: dict[str, Any], *, num_rows: int, frame_size: int, num_actions: int
) -> Prompt | None:
    """Checks the reset options of a dream and converts them to a prompt.

    Args:
        options: "frames" ``(k, H, W, 3)`` and "actions" ``(k - 1,)``, which all rows share, or
            both with a leading axis for the rows. A single frame needs no actions.
        num_rows: Number of rows in the env.
        frame_size: Height and width of the frames.
        num_actions: Number of actions in the env's action space.

    Returns:
        The prompt; None if `options` is empty.

    Raises:
        ValueError: If an option is unknown or malformed.
    """
    if unknown := sorted(options.keys() - {"frames", "actions"}):
        raise ValueError(f"a dream's reset options are 'frames' and 'actions', got {unknown}")
    if "frames" not in options:
        if options:
            raise ValueError("options['actions'] needs options['frames']: add the frames")
        return None
    frames = _frames(options["frames"], num_rows, frame_size)
    between = frames.shape[1] - 1
    actions = _actions(options.get("actions"), num_rows, between, num_actions)
    return Prompt(frames=frames, actions=actions)


def _frames(given: Any, num_rows: int, size: int) -> NDArray[np.uint8]:
    frames = np.asarray(given)
    if frames.dtype != np.uint8:
        raise ValueError(
            f"options['frames'] must be uint8 from 0 to 255, got {frames.dtype}"
            + (": multiply by 255 and round" if frames.dtype.kind == "f" else "")
        )
    if frames.ndim == 4:
        frames = np.broadcast_to(frames, (num_rows, *frames.shape))
    shape = (num_rows, size, size, 3)
    if frames.ndim != 5 or not frames.shape[1] or frames.shape[:1] + frames.shape[2:] != shape:
        raise ValueError(
            f"options['frames'] must have shape (k, {size}, {size}, 3) with k at least 1, or "
            f"({num_rows}, k, {size}, {size}, 3) with one prompt per sub-env, got "
            f"{np.shape(given)}"
        )
    return frames


def _actions(given: Any, num_rows: int, between: int, num_actions: int) -> NDArray[np.int64]:
    if given is None and not between:
        return np.zeros((num_rows, 0), np.int64)
    actions = np.asarray(given)
    if actions.ndim == 1:
        actions = np.broadcast_to(actions, (num_rows, *actions.shape))
    if actions.shape != (num_rows, between):
        raise ValueError(
            f"{between + 1} frames have {between} actions between them: options['actions'] must "
            f"have shape ({between},) or ({num_rows}, {between}), got {np.shape(given)}. A single "
            "frame per sub-env needs no actions: its axis k has length 1, as in frames[:, None]"
        )
    if not actions.size:
        return np.zeros((num_rows, 0), np.int64)
    if actions.dtype.kind not in "iu" or actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(
            f"options['actions'] must be integers from 0 to {num_actions - 1}, got {given!r}"
        )
    return actions.astype(np.int64)

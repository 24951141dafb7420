"""Checks the arguments that users pass to a vector env."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from gymnasium import error
from numpy.typing import NDArray

__all__ = [
    "UnknownArgumentError",
    "check_arguments",
    "checked_actions",
    "masked_rows",
    "named_arguments",
    "seeds_by_row",
]

T = TypeVar("T")


class UnknownArgumentError(TypeError, ValueError):
    """Raised for an unknown keyword argument of an env; the message lists the valid names."""


def named_arguments(cls: type[T]) -> type[T]:
    """Makes a class raise UnknownArgumentError for keyword arguments that it does not have."""
    init = cls.__init__
    names = [
        name
        for name, parameter in inspect.signature(init).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]

    @functools.wraps(init)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                # Begins like Python's own message, which TorchRL looks for.
                raise UnknownArgumentError(
                    f"unexpected keyword argument {name!r}: this env takes "
                    f"{', '.join(names)}.{hint}"
                )
        init(self, *args, **kwargs)

    cls.__init__ = checked  # type: ignore[assignment]
    return cls


def check_arguments(
    num_envs: int, max_episode_steps: int | None, render_mode: str | None, modes: list[str]
) -> None:
    """Raises ValueError for invalid constructor arguments."""
    if int(num_envs) < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if max_episode_steps is not None and max_episode_steps != -1 and max_episode_steps < 1:
        raise ValueError(
            f"max_episode_steps must be at least 1, or -1 for no limit, got {max_episode_steps}"
        )
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode must be None or one of {modes}, got {render_mode!r}")


def seeds_by_row(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Returns one seed per row (sub-env).

    An integer becomes ``seed, seed + 1, ...``, as in Gymnasium.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + row for row in range(num_envs)]
    seeds = list(seed)
    if len(seeds) != num_envs:
        raise ValueError(f"expected {num_envs} seeds, one per sub-env, got {len(seeds)}")
    return seeds


def masked_rows(mask: Any, num_envs: int) -> NDArray[np.intp]:
    """Returns the rows (sub-envs) that ``options["reset_mask"]`` marks, or all without a mask."""
    if mask is None:
        return np.arange(num_envs)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] must be a NumPy array of dtype bool, got {mask!r}")
    if mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f"options['reset_mask'] must have shape ({num_envs},) and mark at least one "
            f"sub-env, got {mask}"
        )
    return np.flatnonzero(mask)


def checked_actions(actions: Any, num_envs: int, meanings: tuple[str, ...]) -> NDArray[np.int64]:
    """Returns the actions as int64; each must be an index into `meanings`."""
    given, count = np.asarray(actions), len(meanings)
    if given.shape != (num_envs,) or given.dtype.kind not in "iu":
        raise error.InvalidAction(
            f"expected {num_envs} integer actions, got {given.dtype} of shape "
            f"{given.shape}: {actions!r}"
        )
    if given.size and (given.min() < 0 or given.max() >= count):
        raise error.InvalidAction(
            f"expected actions from 0 to {count - 1} ({', '.join(meanings)}), got {actions!r}"
        )
    return given.astype(np.int64)

"""Splits a step over the threads of a CPU: each thread computes a part of the batch.

torch's own threads split every single operation, and spin-wait for each other after it. A step has
hundreds of small operations, so these threads would gain little. If other processes keep the CPU
busy, they would even be slower than one thread. They also do not survive a fork: a child process
that used them would hang.

Here, each part of the batch runs on one thread, and the threads synchronise only once per step. A
*row* is one batch item.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from world_models.inference.prediction import Prediction
from world_models.inference.state import WorldState

__all__ = ["Step", "divided", "one_thread", "step_in_parts", "threads", "threads_of_an_operation"]

MIN_ROWS = 4  # fewer rows per thread are not worth a thread
_LARGE = 20_000_000  # in a model with so many parameters, an operation is worth several threads

Step = Callable[..., tuple[WorldState, Prediction]]
"""Maps a state and actions to the next state and a prediction, as `WorldModel.step` does."""


def step_in_parts(
    step: Step, num_parts: int, state: WorldState, *inputs: Tensor
) -> tuple[WorldState, Prediction]:
    """Split the rows into parts, and call ``step(state, *inputs)`` for each part on its own thread.

    Each input has one entry per row. The world model must not be compiled. Do not use the state
    again afterwards.
    """
    columns = (x.tensor_split(num_parts) for x in inputs)
    parts = zip(state.tensor_split(num_parts), *columns, strict=True)
    inference = torch.is_inference_mode_enabled()  # threads do not inherit this mode
    done = [_pool(num_parts).submit(_on_one_thread, inference, step, *part) for part in parts]
    states, predictions = zip(*(future.result() for future in done), strict=True)
    return state.joined(states), Prediction.cat(predictions)


def divided(step: Step, num_rows: int, num_threads: int, device: torch.device) -> Step:
    """Return `step`, split over the threads of the CPU if there are enough rows.

    Args:
        step: The step of a world model that is not compiled.
        num_rows: Number of rows.
        num_threads: Maximum number of threads.
        device: The device that the model is on.
    """
    parts = min(num_threads, num_rows // MIN_ROWS)
    if parts < 2 or device.type != "cpu":
        return step
    return partial(step_in_parts, step, parts)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Run each torch operation inside the context on at most `number` threads."""
    before = torch.get_num_threads()
    if before > number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if before > number:
            torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Run all torch operations inside the context on the calling thread alone."""
    return threads(1)


def threads_of_an_operation(model: nn.Module, num_threads: int) -> int:
    """Return the number of threads for each operation: all for a large model, otherwise one."""
    large = sum(p.numel() for p in model.parameters()) >= _LARGE
    return num_threads if large else 1


def _on_one_thread(
    inference: bool, step: Step, *arguments: WorldState | Tensor
) -> tuple[WorldState, Prediction]:
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    with torch.inference_mode(inference):
        return step(*arguments)


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="dream")


def _after_fork() -> None:
    """Use one thread in a forked child, where torch would wait for threads that no longer exist."""
    _pool.cache_clear()
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_after_fork)

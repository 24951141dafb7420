"""Runs a step of many rows on a CPU: each thread computes a part of the rows.

torch's own threads split every single operation, and spin-wait for each other after it. A step has
hundreds of small operations, so torch's threads would gain little, and if other processes keep the
CPU busy, they would be slower than one thread. They also do not survive a fork: a child process
that used them would hang. Here each part runs on one thread, and threads synchronise once per step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from world_models.inference.state import WorldState
from world_models.inference.world import Prediction

__all__ = ["MIN_ROWS", "Step", "one_thread", "step_in_parts", "threads", "threads_of_an_operation"]

MIN_ROWS = 4  # fewer rows per thread are not worth a thread
_LARGE = 20_000_000  # with this many parameters, a single operation is worth several threads

Step = Callable[..., tuple[WorldState, Prediction]]
"""`WorldModel.step`: maps a state and actions to the next state and the prediction."""


def step_in_parts(
    step: Step, num_parts: int, state: WorldState, *inputs: Tensor
) -> tuple[WorldState, Prediction]:
    """Split the rows into parts, and call ``step(state, *inputs)`` for each on its own thread.

    The world must not be compiled, and the state must not be used again. Each input has one entry
    per row.
    """
    columns = (x.tensor_split(num_parts) for x in inputs)
    parts = zip(state.tensor_split(num_parts), *columns, strict=True)
    inference = torch.is_inference_mode_enabled()  # threads do not inherit it
    done = [_pool(num_parts).submit(_on_one_thread, inference, step, *part) for part in parts]
    states, predictions = zip(*(future.result() for future in done), strict=True)
    return state.joined(states), Prediction.cat(predictions)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Run each of torch's operations on at most `number` threads."""
    before = torch.get_num_threads()
    if before > number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if before > number:
            torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Run torch's operations on the calling thread alone."""
    return threads(1)


def threads_of_an_operation(model: nn.Module, num_threads: int) -> int:
    """Return the number of threads per operation: all threads for a large model, else one."""
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

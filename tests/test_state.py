"""Rows begin anew one by one, or all at once."""

import pytest
import torch

from world_models.inference.state import WorldState, merge_rows
from world_models.inference.world import WorldModel
from world_models.presets import build, tiny

NUM_ROWS = 4


@pytest.fixture(scope="module")
def world() -> WorldModel:
    torch.manual_seed(0)
    return build(tiny()).eval()


def started(world: WorldModel, seeds: list[int]) -> WorldState:
    """Rows with a seed and a frame of their own."""
    frames = torch.tensor(seeds, dtype=torch.uint8)[:, None, None, None, None]
    actions = torch.zeros(len(seeds), 0, dtype=torch.int64)
    return world.start(frames.expand(-1, 1, 16, 16, 3), actions, torch.tensor(seeds))


def assert_same(one: WorldState, other: WorldState) -> None:
    tensors, others = one.tensors(), other.tensors()
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name


def test_rows_that_begin_first_are_everywhere(world):
    state = merge_rows(None, torch.tensor([3, 1]), started(world, [50, 60]), NUM_ROWS)
    assert_same(state, started(world, [50, 60, 50, 50]))


def test_rows_that_begin_later_leave_the_others_alone(world):
    state = started(world, [1, 2, 3, 4])
    merged = merge_rows(state, torch.tensor([3, 1]), started(world, [50, 60]), NUM_ROWS)
    assert_same(merged, started(world, [1, 60, 3, 50]))


def test_all_rows_begin_in_any_order(world):
    fresh = started(world, [10, 20, 30, 40])
    for state in (None, started(world, [1, 2, 3, 4])):
        merged = merge_rows(state, torch.tensor([2, 0, 1, 3]), fresh, NUM_ROWS)
        assert_same(merged, started(world, [20, 30, 10, 40]))

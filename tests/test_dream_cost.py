"""A dream as the cost model of planners."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from agents.dream_cost import DreamCost
from tests.known_world import KnownWorld
from tests.square_world import MOVES, draw, play
from world_models.worlds.bundle import save_world

pytestmark = pytest.mark.usefixtures("one_thread")

K = len(MOVES)
END = 0.9  # KnownWorld's probability that reaching the goal ends the episode


@pytest.fixture
def cells():
    return torch.tensor([[2, 2], [3, 2], [0, 0]])


@pytest.fixture
def actions():
    return torch.randint(K, (3, 40, 5), generator=torch.Generator().manual_seed(0))


def pixels(cells, num):
    return draw(cells)[:, None].expand(-1, num, -1, -1, -1)


def known_cost(cells, actions, discount):
    """Minus the expected return, written out."""
    rewards = play(cells.repeat_interleave(actions.shape[1], 0), actions.flatten(0, 1))[1]
    total = torch.zeros(len(rewards))
    for row, earned in enumerate(rewards.tolist()):
        going = 1.0
        for t, reward in enumerate(earned):
            total[row] += discount**t * going * reward
            going *= 1 - END * reward
    return -total.view(actions.shape[:2])


@pytest.mark.parametrize(("discount", "max_rows"), [(1.0, 64), (0.9, 7)])
def test_costs_are_known_returns(cells, actions, discount, max_rows):
    model = DreamCost(KnownWorld(), K, discount=discount, max_rows=max_rows)
    costs = model.get_cost({"pixels": pixels(cells, 40)}, actions)
    expected = known_cost(cells, actions, discount)
    assert torch.allclose(costs, expected, atol=1e-6) and len(expected.unique()) > 3


def test_every_layout_of_frames_and_actions_means_the_same(cells, actions):
    model, frames = DreamCost(KnownWorld(), K), pixels(cells, 40)
    expected = model.get_cost({"pixels": frames}, actions)
    wrong = torch.zeros_like(frames)
    for same in (
        frames.numpy(),
        frames.movedim(-1, -3),
        frames.float() / 255,
        torch.stack((wrong, frames), 2),  # the last of two frames counts
        torch.stack((wrong, frames), 2).movedim(-1, -3).float() / 255,
    ):
        assert model.get_cost({"pixels": same}, actions).equal(expected)
    blocks = F.one_hot(actions[..., :4].unflatten(-1, (2, 2)), K).float().flatten(-2)
    short = model.get_cost({"pixels": frames}, actions[..., :4])
    assert model.get_cost({"pixels": frames}, blocks).equal(short)


def test_wrong_arguments_are_named(cells, actions):
    model, frames = DreamCost(KnownWorld(), K), pixels(cells, 40)
    for given, candidates, said in (
        (frames[0], actions, "info\\['pixels'\\]"),
        (frames.float(), actions, "normalisation"),
        (frames, actions + 1, f"from 0 to {K - 1}"),
        (frames, torch.zeros(3, 40, 5, K + 1), "one-hot"),
    ):
        with pytest.raises(ValueError, match=said):
            model.get_cost({"pixels": given}, candidates)


def test_a_real_dream_costs_what_it_pays(world):
    """Rows in one batch cost the same as each alone; actions matter; calls repeat."""
    model = DreamCost.of("CoinRun", steps=1, dtype="float32", max_rows=5)
    frame = world.starts.frames[:2, -1]
    given = {"pixels": frame[:, None].expand(-1, 4, -1, -1, -1).numpy()}
    actions = torch.from_numpy(np.random.default_rng(0).integers(7, size=(2, 4, 3)))
    actions[:, 3] = actions[:, 0]
    costs = model.get_cost(given, actions)
    assert torch.allclose(costs[:, 3], costs[:, 0], atol=1e-6)
    assert costs.std(1).min() > 0 and costs.equal(model.get_cost(given, actions))
    state = model.model.start(
        frame[1:, None], torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    )
    total, going = 0.0, 1.0
    for action in actions[1, 2]:
        state, prediction = model.model.step(state, action[None])
        total += going * prediction.reward.item()
        going *= 1 - prediction.termination.item()
    assert costs[1, 2].item() == pytest.approx(-total, abs=1e-5)


def test_a_world_that_predicts_no_rewards_has_no_costs(world, tmp_path):
    save_world(tmp_path / "New", replace(world.card, outcomes=False), world.model, world.starts)
    with pytest.raises(ValueError, match="neither rewards nor terminations.*--outcome-only"):
        DreamCost.of(tmp_path / "New")

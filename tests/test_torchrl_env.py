"""A dream as a model-based env of TorchRL."""

from dataclasses import replace

import pytest
import torch
from torchrl.envs.utils import check_env_specs
from torchrl.modules import CEMPlanner

from agents.torchrl_env import DreamEnv
from world_models.worlds.bundle import save_world

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"dtype": "float32", "steps": 1}


@pytest.fixture
def env(world):
    return DreamEnv("CoinRun", 3, **QUICK)


def one_hot(actions):
    return torch.nn.functional.one_hot(torch.as_tensor(actions), 7).float()


def test_it_is_what_its_specs_say(env):
    check_env_specs(env)
    rollout = env.rollout(4, break_when_any_done=False)
    assert rollout["next", "pixels"].shape == (3, 4, 64, 64, 3)
    assert rollout["next", "pixels"].dtype == torch.uint8


def test_frames_and_rewards_are_those_of_the_world(world):
    env = DreamEnv("CoinRun", **QUICK)
    actions = torch.tensor([[1, 4, 2], [3, 0, 5]])
    frames = world.starts.frames[:2, -1:]
    begun = env.begin(frames, torch.zeros(2, 0, dtype=torch.int64))
    state = env.world_model.world.start(
        frames, torch.zeros(2, 0, dtype=torch.int64), begun["state", "seeds"].clone()
    )
    for action in actions.T:
        begun["action"] = one_hot(action)
        stepped = env.step(begun.clone())["next"]
        again = env.step(begun)["next"]  # a step changes nothing of what it began with
        state, prediction = env.world_model.world.step(state, action)
        for next_ in (stepped, again):
            assert next_["pixels"].equal(prediction.frames)
            assert torch.allclose(next_["reward"][:, 0], prediction.reward)
        begun = again.exclude("reward")


def test_only_the_rows_to_reset_begin_anew(env):
    begun = env.reset()
    begun["_reset"] = torch.tensor([[True], [False], [True]])
    again = env.reset(begun.clone())
    assert again["pixels"][1].equal(begun["pixels"][1])
    assert again["state", "seeds"][1] == begun["state", "seeds"][1]
    assert (again["state", "seeds"][[0, 2]] != begun["state", "seeds"][[0, 2]]).all()


def test_an_untrained_outcome_head_is_not_believed(world, tmp_path):
    save_world(tmp_path / "New", replace(world.card, outcomes=False), world.model, world.starts)
    with pytest.warns(UserWarning, match="neither rewards nor terminations"):
        env = DreamEnv(tmp_path / "New", 3, **QUICK)
    env.world_model.world.dynamics.outcome.mlp[-1].bias.data[-1] = 9.0  # every step would end
    rollout = env.rollout(2, break_when_any_done=False)
    assert not rollout["next", "reward"].any() and not rollout["next", "terminated"].any()


def test_torchrls_planner_plans_in_it(env):
    """It finds the action that pays, in a dream that is made to pay for one action."""
    world = env.world_model.world
    step = world.step

    class Paid(type(world)):
        def step(self, state, action):
            state, prediction = step(state, action)
            prediction.reward[:] = (action == 4).float()
            prediction.termination[:] = 0
            return state, prediction

    world.__class__ = Paid
    env = DreamEnv("CoinRun", **QUICK)
    env.world_model.world = world
    planner = CEMPlanner(env, planning_horizon=2, optim_steps=3, num_candidates=48, top_k=4)
    torch.manual_seed(0)  # candidates are drawn from torch's global generator
    found = planner(env.reset().unsqueeze(0))
    assert found["action"].argmax(-1).tolist() == [4]

"""A task where only uncertainty differs: the agent goes where the world is unsure."""

import numpy as np
import pytest
import torch

from benchmarks.studies.two_armed import TelevisionVectorEnv, explored, learn_world, shares


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_left_and_right_differ_in_nothing_but_what_is_shown():
    env = TelevisionVectorEnv(2, "noise")
    env.reset(seed=0)
    on, screens, rewards = [], [], []
    for _ in range(8):
        frames, reward, *_, infos = env.step(np.array([1, 2]))
        on.append(infos["on"].tolist())
        screens.append(frames[:, :8])
        rewards.append(reward)
    assert on[3:] == [[True, False]] * 5
    assert not np.any(rewards)
    assert (screens[-1][1] == 20).all()
    assert not np.array_equal(screens[-1][0], screens[-2][0])


def test_the_agent_goes_where_the_world_cannot_know(tmp_path):
    world = learn_world(tmp_path, "noise", steps=(60, 100))
    env = explored(world, "noise", steps=3584, seed=0)
    on, uncertainty = np.concatenate(env.on), np.concatenate(env.uncertainty)
    assert uncertainty[on].mean() > 3 * uncertainty[~on].mean()
    share = shares(env)
    assert share[0] < 0.65 and share[-2:].mean() > 0.8, share

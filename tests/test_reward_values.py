"""Rewards of dreams that the game can pay."""

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.envs.loaded_worlds import open_world
from genie_gym.envs.reward_values import payable


@pytest.mark.parametrize("values", [(), (0.0, 10.0), (-1.0, 0.0, 4.0)])
def test_sampled_rewards_occur_in_the_game_and_have_the_expected_mean(values):
    expected = np.linspace(-0.9, 3.9, 25) if len(values) != 2 else np.linspace(0, 10, 25)
    draws = (np.arange(1000) + 0.5)[:, None] / 1000
    drawn = payable(np.broadcast_to(expected, (1000, 25)), values, draws)
    assert set(np.unique(drawn)) <= set(values or range(-1, 5))
    assert np.allclose(drawn.mean(0), expected, atol=0.01)


def test_rounded_rewards_are_the_nearest_and_stay_in_range():
    expected = np.array([-3.0, 8.8e-15, 4.9, 5.1, 12.0])
    assert payable(expected, (0.0, 10.0)).tolist() == [0, 0, 0, 10, 10]
    assert payable(np.array([-0.6, 0.2, 1.7]), ()).tolist() == [-1, 0, 2]
    assert payable(expected, (0.0,)).tolist() == [0] * 5
    assert payable(np.array([99.0]), (0.0, 10.0), np.array([0.999])).tolist() == [10]


def test_a_dream_pays_what_its_game_pays_and_shows_the_same_frames():
    played = {}
    for mode in ("expected", "rounded", "sampled"):
        env = gym.make_vec(
            "GenieRedux/CrazyClimber-v0", num_envs=4, reward=mode, autoreset_mode="Disabled"
        )
        frames, rewards = [env.reset(seed=0)[0]], []
        for _ in range(6):
            frame, reward, ended, *_ = env.step(np.full(4, 1))
            if ended.any():
                break
            frames.append(frame), rewards.append(reward)
        played[mode] = np.array(frames), np.array(rewards)
        env.close()
    assert len(played["expected"][1]) > 1
    assert np.array_equal(played["expected"][0], played["rounded"][0])
    assert np.array_equal(played["expected"][0][:2], played["sampled"][0][:2])
    assert ((played["expected"][1] % 1) != 0).all()
    known = open_world("CrazyClimber").card.rewards
    assert np.array_equal(played["rounded"][1], payable(played["expected"][1], known))
    assert set(np.unique(played["sampled"][1])) <= set(known or range(11))
    with pytest.raises(ValueError, match="reward must be one of.*'sampled'"):
        gym.make("GenieRedux/CrazyClimber-v0", reward="exact")


def test_a_world_that_rounds_its_rewards_does_so_unless_asked_otherwise():
    assert open_world("Freeway").card.rounded_rewards
    rewards = {}
    for mode in (None, "expected", "rounded"):
        env = gym.make_vec("GenieRedux/Freeway-v0", 8, reward=mode, autoreset_mode="Disabled")
        env.reset(seed=0)
        rewards[mode] = np.array([env.step(np.full(8, 2))[1] for _ in range(40)])  # 2 is UP
        env.close()
    assert set(np.unique(rewards[None])) == {0, 1}
    assert np.array_equal(rewards[None], rewards["rounded"])
    assert np.array_equal(rewards[None], payable(rewards["expected"], (0.0, 1.0)))

"""Planning over saved states."""

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from agents.planning import PlannerConfig, plan
from tests.counting_env import CountingVectorEnv


def counting_state() -> bytes:
    env = CountingVectorEnv(1)
    env.reset(seed=3)
    env.step(np.array([1]))
    return env.save_state()[0]


def test_the_best_plan_is_found_where_it_is_known():
    """Action 1 earns 1, action 2 ends the episode: the best plan is all ones."""
    config = PlannerConfig(horizon=10, rounds=6)
    found = plan(CountingVectorEnv(64), counting_state(), config, np.random.default_rng(0))
    assert found.actions.tolist() == [1] * 10
    assert found.value == 10


def test_random_shooting_is_worse_and_repeats_are_taken():
    shooting = PlannerConfig(horizon=10, rounds=1)
    found = plan(CountingVectorEnv(64), counting_state(), shooting, np.random.default_rng(0))
    assert 0 < found.value < 10
    held = PlannerConfig(horizon=3, rounds=4, repeat=5)
    found = plan(CountingVectorEnv(64), counting_state(), held, np.random.default_rng(0))
    assert found.value == 15


@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"elites": 0.0}, {"smoothing": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PlannerConfig(**wrong)


def test_64_futures_of_one_dream(coinrun_world):
    """The plan's value is what the dream then gives, since its futures were those of the dream."""
    env = gym.make("GenieRedux/CoinRun-v0", steps=1).unwrapped
    dreams = gym.make_vec("GenieRedux/CoinRun-v0", num_envs=64, steps=1).unwrapped
    env.reset(seed=0)
    config = PlannerConfig(horizon=3, rounds=2)
    found = plan(dreams, env.save_state(), config, np.random.default_rng(0))
    assert found.values.std() > 0, "all futures are worth the same"
    assert found.value >= found.values.max()
    value = 0.0
    for action in found.actions:
        _, reward, terminated, _, _ = env.step(int(action))
        value += reward
        if terminated:
            break
    assert value == pytest.approx(found.value, abs=1e-6)

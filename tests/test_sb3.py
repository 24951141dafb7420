"""The Stable-Baselines3 adapter, with known numbers and with PPO learning real games."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

import genie_gym  # noqa: F401
from agents.sb3 import SB3VecEnv, make_sb3_env
from tests.counting_env import CountingVectorEnv

END = 2


def counting(num_envs=2, **kwargs):
    return SB3VecEnv(CountingVectorEnv(num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs))


def test_terminal_observation_and_infos_of_an_ended_row():
    env = counting()
    env.seed(5)
    drawn = env.reset()[:, 0, 0, 0].tolist()
    assert env.reset_infos == [{"drawn": drawn[0]}, {"drawn": drawn[1]}]
    frames, rewards, dones, infos = env.step(np.array([1, END]))
    assert rewards.dtype == np.float32 and rewards.tolist() == [1, 0]
    assert dones.tolist() == [False, True]
    assert infos[0] == {"count": 1}
    assert infos[1]["terminal_observation"][0, :3, 0].tolist() == [drawn[1], 0, 1]
    assert infos[1]["count"] == 0 and infos[1]["TimeLimit.truncated"] is False
    assert frames[1, 0, 1:3, 0].tolist() == [0, 0]
    assert env.reset_infos[1]["drawn"] == frames[1, 0, 0, 0]


def test_truncation_is_told_apart_from_termination():
    env = counting(max_episode_steps=1)
    env.reset()
    _, _, dones, infos = env.step(np.array([0, END]))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]


def test_of_an_endless_env_every_end_is_a_truncation():
    vector = CountingVectorEnv(2, autoreset_mode=AutoresetMode.SAME_STEP)
    env = SB3VecEnv(vector, endless=True)
    env.reset()
    _, _, dones, infos = env.step(np.array([1, END]))
    assert dones.tolist() == [False, True] and infos[1]["TimeLimit.truncated"] is True


def test_seeds_are_used_once():
    env = counting()
    env.seed(7)
    first = env.reset()
    second = env.reset()
    env.seed(7)
    assert np.array_equal(env.reset(), first) and not np.array_equal(second, first)


def test_env_attributes_and_methods():
    env = counting()
    env.reset()
    assert env.get_attr("action_meanings", indices=[0]) == [("ADD-0", "ADD-1", "END")]
    assert [type(state) for state in env.env_method("save_state")] == [bytes, bytes]
    assert env.env_is_wrapped(gym.vector.VectorWrapper) == [False, False]
    with pytest.raises(ValueError, match="some sub-envs only"):
        env.env_method("save_state", indices=[0])


def test_other_autoreset_modes_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="SameStep"):
        SB3VecEnv(CountingVectorEnv(2))


class Returns(BaseCallback):
    """Keeps the return of every finished episode; stops once the last 40 are good enough."""

    def __init__(self, enough: Callable[[list[float]], bool]):
        super().__init__()
        self.returns: list[float] = []
        self.enough = enough

    def _on_step(self):
        self.returns += [i["episode"]["r"] for i in self.locals["infos"] if "episode" in i]
        return len(self.returns) < 80 or not self.enough(self.returns)


def test_ppo_learns_the_counting_env():
    env = VecMonitor(counting(4, max_episode_steps=16))
    model = PPO("MlpPolicy", env, n_steps=64, learning_rate=3e-3, seed=0, device="cpu")
    learned = Returns(lambda returns: np.mean(returns[-40:]) > 14)
    model.learn(20_000, callback=learned)
    assert np.mean(learned.returns[:20]) < 6
    assert np.mean(learned.returns[-40:]) > 14, "the best return is 16"


def test_ppo_learns_on_real_coinrun():
    """Two easy levels that a random player finishes now and then: soon it finishes them often."""
    env = make_sb3_env(
        "Procgen/CoinRun-v0", 32,
        max_episode_steps=200, num_levels=2, start_level=13, distribution_mode="easy",
    )  # fmt: skip
    model = PPO(
        "CnnPolicy", VecMonitor(env), n_steps=64, batch_size=512, n_epochs=3,
        learning_rate=1e-3, gamma=0.97, ent_coef=0.01, seed=0, device="cpu",
    )  # fmt: skip
    learned = Returns(lambda returns: np.mean(returns[-40:]) > np.mean(returns[:40]) + 3)
    model.learn(60_000, callback=learned)
    first, last = learned.returns[:40], learned.returns[-40:]
    assert np.mean(last) > np.mean(first) + 3, (np.mean(first), np.mean(last))
    env.close()

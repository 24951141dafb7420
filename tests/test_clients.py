"""Programs that nobody here wrote, with a dream as their env."""

import os

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from gymnasium.wrappers import vector as vector_wrappers

import genie_gym  # noqa: F401
from agents.sb3 import make_sb3_env

ID = "GenieRedux/CoinRun-v0"
QUICK = {"steps": 1, "max_episode_steps": 12}


@pytest.fixture(autouse=True, scope="module")
def world(coinrun_world):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield coinrun_world
    torch.set_num_threads(before)


def parameters(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.policy.parameters()])


def test_ppo_learns_from_dreams():
    from stable_baselines3 import PPO

    env = make_sb3_env(ID, 4, **QUICK)
    model = PPO("CnnPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0)
    before = parameters(model)
    model.learn(64)
    assert not torch.equal(before, parameters(model))
    assert len(model.ep_info_buffer) == 0 or model.ep_info_buffer[0]["l"] <= 12


def test_ppo_takes_the_plain_env_by_its_id():
    from stable_baselines3 import PPO

    model = PPO("CnnPolicy", gym.make(ID, **QUICK), n_steps=16, batch_size=16, n_epochs=1)
    model.learn(32)
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert lengths and max(lengths) <= 12


def test_recurrent_ppo_learns_from_dreams():
    from sb3_contrib import RecurrentPPO

    env = make_sb3_env(ID, 2, **QUICK)
    model = RecurrentPPO("CnnLstmPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=0)
    before = parameters(model)
    model.learn(32)
    assert not torch.equal(before, parameters(model))


def test_frames_can_be_stacked_and_rewards_transformed():
    plain = gym.make(ID, **QUICK)
    env = wrappers.TransformReward(
        wrappers.FrameStackObservation(gym.make(ID, **QUICK), 4), lambda r: 2 * r + 1
    )
    plain.reset(seed=0)
    stack, _ = env.reset(seed=0)
    assert stack.shape == (4, 64, 64, 3)
    for action in (1, 4, 1):
        frame, reward, terminated, truncated, _ = plain.step(action)
        stack, transformed, *_ = env.step(action)
        assert np.array_equal(stack[-1], frame)
        assert transformed == pytest.approx(2 * reward + 1)
        if terminated or truncated:  # as this small world may think any time
            break


def test_episodes_are_counted():
    env = wrappers.RecordEpisodeStatistics(gym.make(ID, **QUICK))
    env.reset(seed=0)
    ended, total, count = False, 0.0, 0
    while not ended:
        _, reward, terminated, truncated, info = env.step(1)
        ended = terminated or truncated
        total, count = total + reward, count + 1
    assert info["episode"]["l"] == count <= 12
    assert info["episode"]["r"] == pytest.approx(total, abs=1e-4)


def test_videos_are_recorded(tmp_path):
    env = gym.make(ID, render_mode="rgb_array", **QUICK)
    env = wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True)
    env.reset(seed=0)
    for _ in range(5):
        env.step(1)
    env.close()
    assert [path.stat().st_size > 0 for path in tmp_path.glob("*.mp4")] == [True]


def test_vector_wrappers_of_gymnasium():
    env = gym.make_vec(ID, num_envs=3, **QUICK)
    env = vector_wrappers.RecordEpisodeStatistics(env)
    env = vector_wrappers.TransformReward(env, lambda r: r * 0 + 5)
    env = vector_wrappers.GrayscaleObservation(env)
    frames, _ = env.reset(seed=0)
    assert frames.shape == (3, 64, 64)
    lengths = []
    for _ in range(26):
        frames, rewards, _, _, infos = env.step(np.ones(3, int))
        assert (rewards == 5).all()
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert len(lengths) >= 3 and max(lengths) <= 12


def test_gymnasiums_own_sync_vector_env_agrees_with_ours():
    theirs = gym.make_vec(ID, num_envs=2, vectorization_mode="sync", **QUICK)
    ours = gym.make_vec(ID, num_envs=2, **QUICK)
    assert np.array_equal(theirs.reset(seed=3)[0], ours.reset(seed=3)[0])
    for action in np.random.default_rng(0).integers(7, size=(20, 2)):
        for a, b in zip(theirs.step(action)[:4], ours.step(action)[:4], strict=True):
            assert np.array_equal(a, b)


def test_a_person_can_play(monkeypatch):
    """Gymnasium's own player, with a key held down in a window that nobody sees."""
    monkeypatch.setitem(os.environ, "SDL_VIDEODRIVER", "dummy")
    import pygame
    from gymnasium.utils.play import play

    seen = []

    def watch(before, after, action, reward, terminated, truncated, info):
        seen.append((action, after))
        if len(seen) == 1:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=ord("d")))
        if len(seen) == 6:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    env = gym.make(ID, render_mode="rgb_array", **QUICK)
    play(env, keys_to_action={"d": 1}, noop=0, callback=watch, fps=1000, seed=0)
    actions = [action for action, _ in seen]
    assert actions[0] == 0 and 1 in actions
    assert seen[-1][1].shape == (64, 64, 3)


def test_torchrl_rolls_out():
    """What TorchRL collects is what the env shows for the same seed and actions."""
    from torchrl.envs import GymEnv, set_gym_backend

    with set_gym_backend("gymnasium"):
        theirs = GymEnv(ID, **QUICK)
        theirs.set_seed(7)
        rollout = theirs.rollout(10, break_when_any_done=False)
    assert (
        theirs.action_spec.shape == (7,) and theirs.observation_spec["pixels"].dtype == torch.uint8
    )
    env = gym.make(ID, **QUICK)
    env.reset(seed=7)
    frame, _ = env.reset()  # TorchRL resets once to seed and once to begin
    assert np.array_equal(rollout["pixels"][0], frame)
    for action, next_ in zip(rollout["action"].argmax(-1), rollout["next"], strict=True):
        frame, reward, terminated, truncated, _ = env.step(int(action))
        assert np.array_equal(next_["pixels"], frame)
        assert next_["reward"].item() == pytest.approx(reward)
        assert (next_["terminated"].item(), next_["truncated"].item()) == (terminated, truncated)
        if terminated or truncated:
            env.reset()

"""Envs that are not of this package, behind its interface."""

import gymnasium as gym
import numpy as np
import pytest

from genie_gym.envs.make import find_spec, make_rows, world_name

GAME = "tests.picture_env:PictureGame-v0"


def make(num_envs=1, **kwargs):
    return make_rows(GAME, num_envs, autoreset_mode="Disabled", **kwargs)


@pytest.mark.parametrize("pictures", [True, False])
def test_frames_are_the_envs_pictures_observed_or_rendered(pictures):
    env = make(pictures=pictures)
    frames, _ = env.reset(seed=3)
    bright = np.argwhere(frames[0, :, :, 0] == 250)
    assert frames.shape == (1, 64, 64, 3)
    assert {64 // 4} == set(np.ptp(bright, axis=0) + 1), "one cell of the board is bright"
    moved = env.step([env.unwrapped.actions.index("RIGHT")])[0]
    assert (np.argwhere(moved[0, :, :, 0] == 250).min(0) - bright.min(0)).tolist() == [0, 16]
    env.close()


def test_rows_depend_on_their_own_seed_and_states_are_replayed():
    rows, alone = make(3), make(1)
    actions = np.random.default_rng(0).integers(5, size=(12, 3))
    first, _ = rows.reset(seed=10)
    assert np.array_equal(alone.reset(seed=12)[0][0], first[2])
    for action in actions[:4]:
        frames = rows.step(action * (action != 1) * (action != 3))[0]
    states = rows.unwrapped.save_state()
    future = [rows.step([4, 4, 2])[0].copy() for _ in range(3)]
    restored = rows.unwrapped.load_state(states[::-1])
    assert np.array_equal(restored, frames[::-1])
    again = [rows.step([2, 4, 4])[0].copy() for _ in range(3)]
    assert np.array_equal(np.array(future), np.array(again)[:, ::-1])
    rows.close(), alone.close()


def test_the_goal_pays_and_ends_the_episode():
    env = make()
    env.reset(seed=0)
    right, down = env.unwrapped.actions.index("RIGHT"), env.unwrapped.actions.index("DOWN")
    total = 0.0
    for action in (right, right, right, down, down, down):
        _, rewards, terminated, _, _ = env.step([action])
        total += rewards[0]
        if terminated[0]:
            break
    assert total == 1 and terminated[0]
    with pytest.raises(gym.error.ResetNeeded):
        env.step([0])
    env.close()


def test_what_cannot_be_a_game_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="only Discrete action spaces"):
        make_rows("Pendulum-v1", 1)
    with pytest.raises(ValueError, match="no images.*no render mode"):
        make_rows("tests.picture_env:Blind-v0", 1)
    with pytest.raises(ValueError, match="use frames='observation'"):
        make_rows("tests.picture_env:Unrendered-v0", 1, frames="render")
    with pytest.raises(ValueError, match="Did you mean: `PictureGame`"):
        find_spec("tests.picture_env:PictureGam-v0")
    with pytest.raises(ValueError, match="cannot import 'no_such_module'"):
        find_spec("no_such_module:Game-v0")
    with pytest.raises(ValueError, match="has the action set 'PictureGame-v0-5'"):
        make(action_set="retroact-5")


def test_worlds_are_named_after_their_game():
    assert world_name("RetroAct/Boxing-Atari2600-v0") == "Boxing"
    assert world_name("Procgen/CoinRun-v0") == "CoinRun"
    assert world_name("minigrid:MiniGrid-Empty-5x5-v0") == "MiniGrid-Empty-5x5"
    assert world_name("ALE/Boxing-v5") == "Boxing"

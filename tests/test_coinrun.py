"""The real CoinRun: equal to bare procgen, row by row, with all that its options and states do."""

import hashlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from genie_gym.actions import action_set
from genie_gym.envs import procgen_rows
from genie_gym.envs.coinrun import (
    CoinRunEnv,
    CoinRunVectorEnv,
    paint_over_velocity_map,
)
from genie_gym.errors import MissingDependencyError
from tests.bare_procgen import BareRows, going_right, needs_procgen

pytestmark = needs_procgen

NAMES = action_set("coinrun-7").meanings


@pytest.mark.parametrize(
    ("options", "bare_options"),
    [
        ({}, {}),
        ({"distribution_mode": "easy", "num_levels": 3, "start_level": 7},) * 2,
        (
            {"use_backgrounds": False, "restrict_themes": True, "velocity_map": True},
            {"use_backgrounds": False, "restrict_themes": True, "paint_vel_info": True},
        ),
    ],
    ids=["default", "levels", "looks"],
)
def test_every_frame_reward_end_and_level_is_that_of_bare_procgen(options, bare_options):
    rows, steps = 10, 250
    bare = BareRows(range(50, 50 + rows), **bare_options)
    env = CoinRunVectorEnv(rows, autoreset_mode="SameStep", num_threads=2, **options)
    frames, _ = env.reset(seed=50)
    assert np.array_equal(frames, bare.observe()[0])
    coins = deaths = 0
    for step, action in enumerate(going_right(np.random.default_rng(0), (steps, rows))):
        frames, rewards, terminated, truncated, infos = env.step(action)
        expected_frames, expected_rewards, first = bare.step(action)
        assert np.array_equal(frames, expected_frames), f"at step {step}"
        assert np.array_equal(rewards, expected_rewards)
        assert np.array_equal(terminated | truncated, first)
        played = bare.levels()
        for row in range(rows):
            info = infos["final_info"] if first[row] else infos
            assert info["level_seed"][row] == played[row]
            assert info["level_complete"][row] == (rewards[row] == 10)
        coins += (rewards == 10).sum()
        deaths += (terminated & (rewards == 0)).sum()
    env.close()
    assert coins >= 3 and deaths >= 3


def test_a_rows_trajectory_does_not_depend_on_its_neighbours_or_the_threads():
    actions = going_right(np.random.default_rng(4), (260, 11))
    single = CoinRunEnv()
    rows = CoinRunVectorEnv(11, autoreset_mode="Disabled", num_threads=3)
    frames, infos = rows.reset(seed=200)
    told = [[(frames[row], infos["level_seed"][row])] for row in range(11)]
    for action in actions:
        frames, rewards, terminated, _, infos = rows.step(action)
        for row in range(11):
            told[row].append((frames[row], infos["level_seed"][row], rewards[row], terminated[row]))
        if terminated.any():
            frames, infos = rows.reset(options={"reset_mask": terminated})
            for row in np.flatnonzero(terminated):
                told[row].append((frames[row], infos["level_seed"][row]))
    episodes = 0
    for row in range(11):
        frame, info = single.reset(seed=200 + row)
        alone = [(frame, info["level_seed"])]
        for action in actions[:, row]:
            frame, reward, terminated, _, info = single.step(action)
            alone.append((frame, info["level_seed"], reward, terminated))
            if terminated:
                frame, info = single.reset()
                alone.append((frame, info["level_seed"]))
                episodes += 1
        assert len(alone) == len(told[row])
        for a, b in zip(alone, told[row], strict=True):
            assert np.array_equal(a[0], b[0]) and a[1:] == b[1:]
    rows.close(), single.close()
    assert episodes >= 4


def test_actions_move_as_their_names_say():
    """The velocity map's left square is brighter when moving right, its right one when rising."""
    shades = {}
    for index, name in enumerate(NAMES):
        env = CoinRunEnv(velocity_map=True)
        env.reset(seed=5)
        env.step(NAMES.index("RIGHT"))  # away from the wall behind
        for _ in range(3):
            frame, *_ = env.step(0)
        still = frame[6, [6, 19], 0].astype(int)
        frame, *_ = env.step(index)
        shades[name] = tuple(np.sign(frame[6, [6, 19], 0].astype(int) - still))
        env.close()
    assert shades == {
        "NOOP": (0, 0),
        "RIGHT": (1, 0),
        "LEFT": (-1, 0),
        "JUMP": (0, 1),
        "JUMP-RIGHT": (1, 1),
        "JUMP-LEFT": (-1, 1),
        "DOWN": (0, 0),
    }


def test_painting_over_hides_the_velocity_map_and_nothing_else():
    plain, mapped, painted = (
        CoinRunVectorEnv(4, velocity_map=with_map, paint_over=over)
        for with_map, over in ((False, False), (True, False), (True, True))
    )
    actions = going_right(np.random.default_rng(6), (40, 4))
    shown = [[env.reset(seed=8)[0]] for env in (plain, mapped, painted)]
    for action in actions:
        for env, frames in zip((plain, mapped, painted), shown, strict=True):
            frames.append(env.step(action)[0])
    without, with_map, over = (np.array(frames) for frames in shown)
    differs = (without != with_map).any(axis=(0, 1, 4))
    assert differs[:13, :26].all() and differs.sum() == 13 * 26
    assert np.array_equal(over, paint_over_velocity_map(with_map))
    assert np.array_equal(over, paint_over_velocity_map(without))
    for env in (plain, mapped, painted):
        env.close()
    with pytest.raises(ValueError, match="64, 64, 3"):
        paint_over_velocity_map(np.zeros((64, 64), np.uint8))


def test_levels_stay_within_those_asked_for():
    env = CoinRunVectorEnv(5, num_levels=3, start_level=40, max_episode_steps=2)
    env.reset(seed=0)
    seen = {int(seed) for _ in range(40) for seed in env.step(np.ones(5, int))[4]["level_seed"]}
    env.close()
    assert seen == {40, 41, 42}


def future_of(env, row, steps=120):
    """What a row shows from now on, as a checksum; the other rows press no key."""
    digest = hashlib.sha256()
    rng = np.random.default_rng(9)
    for action in going_right(rng, (steps,)):
        actions = np.zeros(env.num_envs, int)
        actions[row] = action
        frames, rewards, terminated, truncated, _ = env.step(actions)
        digest.update(frames[row].tobytes())
        digest.update(repr((rewards[row], terminated[row], truncated[row])).encode())
    return digest.hexdigest()


def test_saved_states_have_the_same_future_in_other_rows_and_processes(tmp_path):
    """In mid-episode and at the end of one; and the other process prints nothing else."""
    env = CoinRunVectorEnv(9, max_episode_steps=150)
    env.reset(seed=12)
    ended = np.zeros(9, bool)
    rng = np.random.default_rng(10)
    while not ended.any():
        *_, ended, _, _ = env.step(going_right(rng, (9,)))
    dead, alive = int(np.flatnonzero(ended)[0]), int(np.flatnonzero(~ended)[0])
    states = env.save_state()
    expected = {dead: future_of(env, dead)}
    env.load_state(states)
    expected[alive] = future_of(env, alive)
    other = CoinRunVectorEnv(3, max_episode_steps=150)
    other.reset(seed=99)
    program = [
        "from tests.test_coinrun import *",
        "env = CoinRunVectorEnv(1, max_episode_steps=150)",
    ]
    for row in (dead, alive):
        other.load_state([states[row]], rows=[2])
        assert other.save_state()[2] == states[row]
        assert future_of(other, 2) == expected[row]
        file = tmp_path / f"{row}"
        file.write_bytes(states[row])
        program.append(f"env.load_state([open({str(file)!r}, 'rb').read()])")
        program.append("print(future_of(env, 0))")
    env.close(), other.close()
    run = subprocess.run([sys.executable, "-c", "\n".join(program)], capture_output=True, text=True)
    assert run.stdout.split() == [expected[dead], expected[alive]], run.stderr
    assert run.stderr == ""


def test_a_state_of_other_options_is_refused():
    hard, easy = CoinRunEnv(), CoinRunEnv(distribution_mode="easy")
    hard.reset(seed=0), easy.reset(seed=0)
    with pytest.raises(ValueError, match="easy"):
        hard.load_state(easy.save_state())
    hard.close(), easy.close()


def test_pictures_are_large_and_of_the_ended_episode_until_it_begins_anew():
    env = CoinRunVectorEnv(2, render_mode="rgb_array")
    env.reset(seed=1)
    terminated = np.zeros(2, bool)
    rng = np.random.default_rng(12)
    while not terminated.any():
        frames, _, terminated, *_ = env.step(going_right(rng, (2,)))
    for picture, frame in zip(env.render(), frames, strict=True):
        assert picture.shape == (512, 512, 3)
        small = picture.reshape(64, 8, 64, 8, 3).mean((1, 3))
        assert np.abs(small - frame).mean() < 12, "the picture shows something else"
    other = CoinRunVectorEnv(2, render_mode="rgb_array")
    other.load_state(env.save_state())
    assert np.array_equal(other.render(), env.render())
    env.close(), other.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution_mode": "extreme"}, "'easy' or 'hard', got 'extreme'"),
        ({"num_levels": -1}, "num_levels=-1"),
        ({"use_backgrounds": "no"}, "use_backgrounds must be True or False, got 'no'"),
        ({"start_level": 5}, "add num_levels="),
        ({"num_levels": 2**31 - 1, "start_level": 1}, "at most 2147483647"),
        ({"action_set": "retroact-7"}, "coinrun-7"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CoinRunVectorEnv(2, **options)


def test_without_procgen_the_error_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'genie-gym\[coinrun\]'"):
        gym.make("Procgen/CoinRun-v0")
    monkeypatch.setattr(procgen_rows.platform, "machine", lambda: "aarch64")
    with pytest.raises(MissingDependencyError, match="only for CPython 3.11 on Linux x86-64"):
        gym.make("Procgen/CoinRun-v0")

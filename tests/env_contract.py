"""The contract that every env id of this package keeps, real or dreamed, single and vector.

Subclass `EnvContract` and give it a fixture `case`; pytest then runs every test over every case.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import error
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import genie_gym  # noqa: F401

HORIZON = 9
STEPS = 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """An env id with the keyword arguments to try it with."""

    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    num_envs: int = 3

    def make(self, **kwargs: Any) -> gym.Env:
        return gym.make(self.env_id, **{**self.kwargs, **kwargs})

    def make_vec(self, num_envs: int | None = None, **kwargs: Any) -> gym.vector.VectorEnv:
        given = {**self.kwargs, **kwargs}
        return gym.make_vec(self.env_id, num_envs=num_envs or self.num_envs, **given)


def actions_for(space: gym.Space, steps: int, rows: int, seed: int = 0) -> np.ndarray:
    """The same random actions for everybody, (steps, rows)."""
    return np.random.default_rng(seed).integers(space.n, size=(steps, rows))


def play(env: gym.Env, actions: np.ndarray, seed: int | None) -> list[tuple]:
    """The whole trajectory: (frame, reward, terminated, truncated, info) of reset and each step."""
    frame, info = env.reset(seed=seed)
    trajectory = [(frame, 0.0, False, False, info)]
    for action in actions:
        if trajectory[-1][2] or trajectory[-1][3]:
            frame, info = env.reset()
            trajectory.append((frame, 0.0, False, False, info))
        else:
            trajectory.append(env.step(int(action)))
    return trajectory


def assert_same(left: list[tuple], right: list[tuple]) -> None:
    """Two trajectories are equal bit for bit, infos included."""
    assert len(left) == len(right)
    for step, (a, b) in enumerate(zip(left, right, strict=True)):
        assert np.array_equal(a[0], b[0]), f"frames differ at step {step}"
        assert a[1:4] == b[1:4], f"reward or flags differ at step {step}: {a[1:4]} {b[1:4]}"
        assert a[4].keys() == b[4].keys(), f"info keys differ at step {step}"
        for key in a[4]:
            assert np.array_equal(a[4][key], b[4][key]), f"info {key!r} differs at step {step}"


def row_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """One row's info out of a vector env's infos."""
    return {
        key: values[row]
        for key, values in infos.items()
        if not key.startswith("_") and f"_{key}" in infos and infos[f"_{key}"][row]
    }


class EnvContract:
    """The tests. `case` is a fixture of the subclass."""

    def test_gymnasiums_checker_passes(self, case: Case) -> None:
        env = case.make(render_mode="rgb_array")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", ".*, bfloat16 is .* times as slow", UserWarning)
            check_env(env.unwrapped)
        env.close()

    def test_stable_baselines_checker_passes(self, case: Case) -> None:
        from stable_baselines3.common.env_checker import check_env as check_env_sb3

        env = case.make()
        check_env_sb3(env)
        env.close()

    def test_spaces_and_meanings(self, case: Case) -> None:
        env, rows = case.make(), case.make_vec()
        try:
            size = env.observation_space.shape[0]
            assert env.observation_space == gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
            meanings = env.unwrapped.action_meanings
            assert env.action_space == gym.spaces.Discrete(len(meanings))
            assert env.metadata["render_fps"] > 0
            assert rows.single_observation_space == env.observation_space
            assert rows.single_action_space == env.action_space
            assert rows.unwrapped.action_meanings == meanings
            assert rows.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
            frames, _ = rows.reset(seed=0)
            assert rows.observation_space.contains(frames)
            frames, rewards, terminated, truncated, _ = rows.step(rows.action_space.sample())
            assert rows.observation_space.contains(frames)
            assert rewards.dtype == np.float64
            assert terminated.dtype == truncated.dtype == np.bool_
        finally:
            env.close(), rows.close()

    def test_frames_show_a_moving_picture(self, case: Case) -> None:
        env = case.make()
        trajectory = play(env, actions_for(env.action_space, STEPS, 1)[:, 0], seed=0)
        env.close()
        frames = np.array([step[0] for step in trajectory])
        assert frames.max() > 60 and len(np.unique(frames[-1])) > 2, "black or flat frames"
        assert (frames[1:] != frames[:-1]).any(), "nothing ever moves"

    def test_same_seed_same_trajectory(self, case: Case) -> None:
        env, other = case.make(max_episode_steps=HORIZON), case.make(max_episode_steps=HORIZON)
        actions = actions_for(env.action_space, STEPS, 1)[:, 0]
        first = play(env, actions, seed=11)
        assert_same(first, play(other, actions, seed=11))
        assert_same(first, play(env, actions, seed=11))
        env.close(), other.close()

    def test_vector_rows_equal_single_envs_over_several_episodes(self, case: Case) -> None:
        rows = case.make_vec(max_episode_steps=HORIZON)
        actions = actions_for(rows.single_action_space, STEPS, rows.num_envs)
        frames, infos = rows.reset(seed=21)
        zeros, falses = np.zeros(rows.num_envs), np.zeros(rows.num_envs, bool)
        steps = [(frames, zeros, falses, falses, infos)]
        steps += [rows.step(action) for action in actions]
        rows.close()
        single = case.make(max_episode_steps=HORIZON)
        for row in range(rows.num_envs):
            alone = play(single, actions[:, row], seed=21 + row)
            assert_same(
                alone,
                [(f[row], r[row], e[row], t[row], row_of(i, row)) for f, r, e, t, i in steps],
            )
        single.close()

    def test_same_step_and_next_step_show_the_same_episodes(self, case: Case) -> None:
        next_step = case.make_vec(max_episode_steps=HORIZON)
        same_step = case.make_vec(max_episode_steps=HORIZON, autoreset_mode="SameStep")
        actions = actions_for(next_step.single_action_space, STEPS, next_step.num_envs)
        first, _ = next_step.reset(seed=31)
        assert np.array_equal(first, same_step.reset(seed=31)[0])
        assert same_step.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        for row, (left, right) in enumerate(
            zip(_episodes_next(next_step, actions), _episodes_same(same_step, actions), strict=True)
        ):
            count = min(len(left), len(right))
            assert count >= STEPS // (HORIZON + 1)
            for a, b in zip(left[:count], right[:count], strict=True):
                assert np.array_equal(a, b), f"row {row}: an episode differs between the modes"
        next_step.close(), same_step.close()

    def test_disabled_mode_waits_for_a_reset_of_the_ended_rows(self, case: Case) -> None:
        rows = case.make_vec(max_episode_steps=HORIZON, autoreset_mode="Disabled")
        rows.reset(seed=41)
        actions = np.zeros(rows.num_envs, int)
        ended = np.zeros(rows.num_envs, bool)
        while not ended.any():
            frames, _, terminated, truncated, _ = rows.step(actions)
            ended = terminated | truncated
        with pytest.raises(error.ResetNeeded):
            rows.step(actions)
        begun, _ = rows.reset(options={"reset_mask": ended})
        assert np.array_equal(begun[~ended], frames[~ended])
        rows.step(actions)
        rows.close()

    def test_resetting_one_row_leaves_the_others_alone(self, case: Case) -> None:
        rows, other = case.make_vec(), case.make_vec()
        actions = actions_for(rows.single_action_space, STEPS, rows.num_envs)
        frames, _ = rows.reset(seed=51)
        other.reset(seed=51)
        mask = np.arange(rows.num_envs) == 1
        for step, action in enumerate(actions):
            if step == 5:
                kept = rows.reset(options={"reset_mask": mask})[0]
                assert np.array_equal(kept[~mask], frames[~mask])
            frames, rewards, terminated, truncated, _ = rows.step(action)
            expected = other.step(action)
            assert np.array_equal(frames[~mask], expected[0][~mask]), f"at step {step}"
            assert np.array_equal(rewards[~mask], expected[1][~mask])
        rows.close(), other.close()

    def test_a_saved_state_has_the_same_future_everywhere(self, case: Case) -> None:
        env, other = case.make().unwrapped, case.make().unwrapped
        actions = actions_for(env.action_space, STEPS, 1)[:, 0]
        env.reset(seed=61)
        for action in actions[:6]:
            frame, *_ = env.step(int(action))
        state = env.save_state()
        assert isinstance(state, bytes)
        future = [env.step(int(action)) for action in actions[6:16]]
        future += play(env, actions[16:], seed=None)
        for again in (env, other):
            assert np.array_equal(again.load_state(state), frame)
            assert again.save_state() == state
            replay = [again.step(int(action)) for action in actions[6:16]]
            replay += play(again, actions[16:], seed=None)
            assert_same(future, replay)
        env.close(), other.close()

    def test_rows_of_saved_states_can_be_swapped(self, case: Case) -> None:
        rows = case.make_vec()
        actions = actions_for(rows.single_action_space, STEPS, rows.num_envs)
        rows.reset(seed=71)
        for action in actions[:6]:
            rows.step(action)
        states = rows.unwrapped.save_state()
        future = [rows.step(action)[0] for action in actions[6:16]]
        rows.unwrapped.load_state(states[::-1])
        mirrored = [rows.step(action[::-1])[0] for action in actions[6:16]]
        assert np.array_equal(np.array(future), np.array(mirrored)[:, ::-1])
        with pytest.raises(ValueError, match="damaged"):
            rows.unwrapped.load_state([states[0][:-1]], rows=[0])
        rows.close()

    def test_step_before_reset_double_close_and_use_after_close(self, case: Case) -> None:
        for env, action in (
            (case.make().unwrapped, 0),
            (case.make_vec().unwrapped, np.zeros(case.num_envs, int)),
        ):
            with pytest.raises(error.ResetNeeded):
                env.step(action)
            env.reset(seed=0)
            env.close()
            env.close()
            for use in (lambda: env.step(action), env.reset, env.save_state):  # noqa: B023
                with pytest.raises(error.ClosedEnvironmentError):
                    use()

    def test_bad_actions_and_options_leave_the_env_usable(self, case: Case) -> None:
        env, other = case.make(disable_env_checker=True), case.make(disable_env_checker=True)
        count = int(env.action_space.n)
        env.reset(seed=81), other.reset(seed=81)
        for bad in (-1, count, 0.5, None, "RIGHT", [0, 1], True):
            with pytest.raises(error.InvalidAction):
                env.step(bad)
        with pytest.raises(ValueError, match="no-such-option"):
            env.reset(options={"no-such-option": 1})
        assert np.array_equal(env.step(0)[0], other.step(0)[0])
        assert np.array_equal(env.step(np.int32(1))[0], other.step(1)[0])
        env.close(), other.close()

    @pytest.mark.filterwarnings("ignore:.*render_mode='ascii'.*:UserWarning")
    def test_unknown_arguments_are_refused_by_name(self, case: Case) -> None:
        with pytest.raises(ValueError, match="retroact-5"):
            case.make(action_set="no-such-set")
        with pytest.raises(ValueError, match="render_mode"):
            case.make(render_mode="ascii", disable_env_checker=True)

    def test_the_spec_survives_pickling(self, case: Case) -> None:
        env = case.make(max_episode_steps=HORIZON)
        spec = pickle.loads(pickle.dumps(env.spec))
        again = gym.make(spec)
        assert again.spec.max_episode_steps == HORIZON
        actions = actions_for(env.action_space, 5, 1)[:, 0]
        assert_same(play(env, actions, seed=91), play(again, actions, seed=91))
        env.close(), again.close()

    def test_rendering_gives_pictures(self, case: Case) -> None:
        env = case.make(render_mode="rgb_array")
        rows = case.make_vec(render_mode="rgb_array")
        env.reset(seed=101), rows.reset(seed=101)
        env.step(1), rows.step(np.ones(rows.num_envs, int))
        pictures = [env.render(), *rows.render()]
        assert len(pictures) == 1 + rows.num_envs
        for picture in pictures:
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
            assert picture.max() > 60
        assert np.array_equal(pictures[0], pictures[1])
        env.close(), rows.close()


def _episodes_next(rows: gym.vector.VectorEnv, actions: np.ndarray) -> list[list[np.ndarray]]:
    """Each row's finished episodes as frames after the first, in NEXT_STEP mode."""
    finished: list[list[np.ndarray]] = [[] for _ in range(rows.num_envs)]
    running: list[list[np.ndarray]] = [[] for _ in range(rows.num_envs)]
    taken = np.zeros(rows.num_envs, int)
    beginning = np.zeros(rows.num_envs, bool)
    while taken.min() < len(actions):
        chosen = actions[np.minimum(taken, len(actions) - 1), np.arange(rows.num_envs)]
        taken += ~beginning
        frames, _, terminated, truncated, _ = rows.step(chosen)
        for row in np.flatnonzero(~beginning):
            running[row].append(frames[row])
        beginning = terminated | truncated
        for row in np.flatnonzero(beginning):
            finished[row].append(np.array(running[row]))
            running[row] = []
    return finished


def _episodes_same(rows: gym.vector.VectorEnv, actions: np.ndarray) -> list[list[np.ndarray]]:
    """The same in SAME_STEP mode, where the final frames lie in the infos."""
    finished: list[list[np.ndarray]] = [[] for _ in range(rows.num_envs)]
    running: list[list[np.ndarray]] = [[] for _ in range(rows.num_envs)]
    for chosen in actions:
        frames, _, terminated, truncated, infos = rows.step(chosen)
        for row in range(rows.num_envs):
            if terminated[row] or truncated[row]:
                running[row].append(infos["final_obs"][row])
                finished[row].append(np.array(running[row]))
                running[row] = []
            else:
                running[row].append(frames[row])
    return finished

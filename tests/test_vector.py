"""What `FrameVectorEnv` promises, with an env whose every number is known."""

import numpy as np
import pytest
from gymnasium import error
from gymnasium.vector import AutoresetMode

from tests.counting_env import CountingEnv, CountingVectorEnv

END = 2


def shown(frames):
    """(drawn, counter, steps) of each row."""
    return frames[:, 0, :3, 0].tolist()


def test_next_step_hands_out_the_final_frame_then_the_first_of_the_next_episode():
    env = CountingVectorEnv(2)
    frames, infos = env.reset(seed=5)
    drawn = frames[:, 0, 0, 0].tolist()
    assert infos["drawn"].tolist() == drawn
    frames, rewards, terminated, truncated, _ = env.step([1, END])
    assert shown(frames) == [[drawn[0], 1, 1], [drawn[1], 0, 1]]
    assert rewards.tolist() == [1, 0] and terminated.tolist() == [False, True]
    frames, rewards, terminated, _, infos = env.step([1, 1])
    assert shown(frames)[0] == [drawn[0], 2, 2]
    assert shown(frames)[1][1:] == [0, 0], "the ended row begins anew and ignores its action"
    assert rewards.tolist() == [1, 0] and not terminated.any()
    assert infos["_count"].tolist() == [True, False]
    assert infos["_drawn"].tolist() == [False, True]


def test_same_step_hands_out_the_final_frame_in_infos():
    env = CountingVectorEnv(3, autoreset_mode=AutoresetMode.SAME_STEP)
    drawn = env.reset(seed=5)[0][:, 0, 0, 0].tolist()
    frames, _, terminated, _, infos = env.step([1, END, 0])
    assert terminated.tolist() == [False, True, False]
    assert infos["final_obs"][1][0, :3, 0].tolist() == [drawn[1], 0, 1]
    assert infos["final_obs"][0] is None
    assert infos["_final_obs"].tolist() == [False, True, False]
    assert infos["final_info"]["_count"].tolist() == [False, True, False]
    assert infos["_count"].tolist() == [True, False, True]
    assert shown(frames)[1][1:] == [0, 0]
    frames, *_ = env.step([1, 1, 1])
    assert [steps for _, _, steps in shown(frames)] == [2, 1, 2]


@pytest.mark.parametrize("copy", [True, False])
def test_frames_are_copies_unless_declined_and_final_frames_always(copy):
    env = CountingVectorEnv(2, autoreset_mode=AutoresetMode.SAME_STEP)
    env.copy = copy
    first, _ = env.reset(seed=5)
    drawn = first[1, 0, 0, 0]
    kept = first.copy()
    frames, *_, infos = env.step([1, END])
    assert (frames is not first) == np.array_equal(first, kept) == copy
    assert infos["final_obs"][1][0, :3, 0].tolist() == [drawn, 0, 1]


def test_disabled_refuses_ended_rows_until_they_are_reset():
    env = CountingVectorEnv(2, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=5)
    env.step([1, END])
    with pytest.raises(error.ResetNeeded, match=r"sub-envs \[1\]"):
        env.step([1, 1])
    frames, infos = env.reset(options={"reset_mask": np.array([False, True])})
    assert [steps for _, _, steps in shown(frames)] == [1, 0]
    assert infos["_drawn"].tolist() == [False, True]
    frames, *_ = env.step([1, 1])
    assert [count for _, count, _ in shown(frames)] == [2, 1]


def test_time_limit_truncates_and_termination_wins_over_it():
    env = CountingVectorEnv(2, max_episode_steps=2)
    env.reset(seed=0)
    env.step([0, 0])
    _, _, terminated, truncated, _ = env.step([0, END])
    assert terminated.tolist() == [False, True]
    assert truncated.tolist() == [True, False]


def test_rows_draw_only_from_their_own_generator():
    many, one = CountingVectorEnv(3), CountingVectorEnv(1)
    expected = [shown(one.reset(seed=seed)[0])[0] for seed in (7, 8, 9)]
    assert shown(many.reset(seed=7)[0]) == expected
    again = shown(many.reset(seed=[None, 8, None])[0])
    assert again[1] == expected[1]
    assert again[0] != expected[0] and again[2] != expected[2]


def test_rows_are_told_when_their_generator_is_new():
    env = CountingVectorEnv(2)
    env.reset()
    assert env.reseeded == [0, 1]
    env.reset()
    assert env.reseeded == [0, 1]
    env.reset(seed=[None, 3])
    assert env.reseeded == [0, 1, 1]


def test_saved_rows_have_the_same_future_in_other_rows():
    env = CountingVectorEnv(2)
    env.reset(seed=1)
    env.step([1, 0])
    states = env.save_state()
    actions = [[1, END], [1, 1], [0, 1], [1, 1]]
    future = [env.step(action)[0] for action in actions]
    other = CountingVectorEnv(2)
    other.load_state(states[::-1])
    mirrored = [other.step(action[::-1])[0] for action in actions]
    assert np.array_equal(np.array(future), np.array(mirrored)[:, ::-1])


def test_a_damaged_or_foreign_state_is_refused_and_changes_nothing():
    env = CountingVectorEnv(1)
    before = env.reset(seed=1)[0]
    (state,) = env.save_state()
    flipped = state[:-1] + bytes([state[-1] ^ 1])
    for bad, message in (
        (flipped, "damaged"),
        (state[:9], "expected the result of save_state"),
        (b"", "expected the result of save_state"),
        ("text", "as bytes"),
        (state[:-4], "damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            env.load_state([bad])
    env.kind = "Test/Other"
    with pytest.raises(ValueError, match="'Test/Counting', but the env is 'Test/Other'"):
        env.load_state([state])
    assert np.array_equal(env.frames, before)
    with pytest.raises(ValueError, match="2 states for rows"):
        env.load_state([state, state])


@pytest.mark.parametrize("bad", [[0], [0, 3], [-1, 0], [0.0, 1.0], [[0, 1]], "ab", [True, False]])
def test_bad_actions_are_refused_and_change_nothing(bad):
    env = CountingVectorEnv(2)
    before = env.reset(seed=1)[0]
    with pytest.raises(error.InvalidAction):
        env.step(bad)
    assert np.array_equal(env.frames, before)
    env.step([0, 1])


@pytest.mark.parametrize(
    "mask", [[True, False], np.array([1, 0]), np.zeros(2, bool), np.ones(3, bool)]
)
def test_bad_reset_masks_are_refused(mask):
    env = CountingVectorEnv(2)
    env.reset()
    with pytest.raises((TypeError, ValueError), match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_unknown_options_bad_seeds_and_bad_arguments_are_refused():
    env = CountingVectorEnv(2)
    with pytest.raises(ValueError, match="frames"):
        env.reset(options={"frames": 1})
    with pytest.raises(ValueError, match="expected 2 seeds"):
        env.reset(seed=[1, 2, 3])
    for kwargs in ({"num_envs": 0}, {"num_envs": 1, "render_mode": "ascii"}):
        with pytest.raises(ValueError, match=list(kwargs)[-1]):
            CountingVectorEnv(**kwargs)


def test_use_before_reset_and_after_close():
    env = CountingVectorEnv(2, render_mode="rgb_array")
    for use in (lambda: env.step([0, 0]), env.save_state, env.render):
        with pytest.raises(error.ResetNeeded):
            use()
    env.reset()
    assert [picture.shape for picture in env.render()] == [(4, 4, 3)] * 2
    env.close()
    env.close()
    for use in (lambda: env.step([0, 0]), env.save_state, env.render, env.reset):
        with pytest.raises(error.ClosedEnvironmentError):
            use()


def test_returned_frames_are_never_written_again():
    env = CountingVectorEnv(1)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second, *_ = env.step([1])
    third, *_ = env.step([1])
    assert np.array_equal(first, kept)
    assert shown(second)[0][1:] == [1, 1] and shown(third)[0][1:] == [2, 2]


def test_single_env_is_a_row_with_plain_values():
    env, rows = CountingEnv(), CountingVectorEnv(1)
    frame, info = env.reset(seed=3)
    assert np.array_equal(frame, rows.reset(seed=3)[0][0])
    assert type(info["drawn"]) is int
    _, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated, info) == (1.0, False, False, {"count": 1})
    assert type(terminated) is bool
    state = env.save_state()
    future = [env.step(END)[0], env.reset()[0]]
    env.load_state(state)
    assert np.array_equal(future, [env.step(END)[0], env.reset()[0]])
    with pytest.raises(error.InvalidAction):
        env.step([0, 1])


def test_human_mode_draws_every_step_into_a_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = CountingVectorEnv(3, render_mode="human")
    env.metadata["render_fps"] = 1000
    env.reset(seed=0)
    frames, *_ = env.step([1, 0, 1])
    screen = env._window._screen
    scale = screen.get_width() // 8  # three rows of 4x4 in a grid of 2 columns
    assert screen.get_size() == (8 * scale, 8 * scale)
    assert screen.get_at((scale // 2, scale // 2))[:3] == tuple(frames[0, 0, 0])
    assert screen.get_at((5 * scale + scale // 2, scale // 2))[:3] == tuple(frames[1, 0, 1])
    assert env.render() is None
    env.close()
    assert env._window is None

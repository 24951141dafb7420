"""Where episodes of the real CoinRun end: exact although procgen resets by itself."""

import numpy as np
import pytest

from genie_gym.envs import procgen_rows
from genie_gym.envs.coinrun import CoinRunEnv, CoinRunVectorEnv
from genie_gym.envs.coinrun_rows import CoinRunRows
from genie_gym.envs.coinrun_state import drawn_cheaply, drawn_like, harmless
from tests.bare_procgen import MOVES, BareRows, going_right, needs_procgen

pytestmark = needs_procgen


def test_time_is_up_when_it_is_in_bare_procgen_and_that_truncates():
    bare, env = BareRows([7]), CoinRunEnv()
    env.reset(seed=7)
    for step in range(1, 1001):
        frame, reward, terminated, truncated, info = env.step(0)
        expected, _, first = bare.step([0])
        assert (terminated, truncated, reward) == (False, step == 1000, 0.0)
        assert first[0] == truncated
        assert truncated or np.array_equal(frame, expected[0])
    assert not np.array_equal(frame, expected[0]), "this is the next level already"
    frame, info = env.reset()
    assert np.array_equal(frame, expected[0])
    env.close()


def test_the_final_frame_is_the_one_that_the_last_step_led_to():
    """Cut short, an episode ends on the frame that bare procgen shows at that step."""
    rows, horizon = 6, 17
    bare = BareRows(range(rows))
    next_step = CoinRunVectorEnv(rows, max_episode_steps=horizon)
    next_step.reset(seed=0)
    for action in going_right(np.random.default_rng(1), (horizon, rows)):
        frames, _, terminated, truncated, _ = next_step.step(action)
        expected, _, first = bare.step(action)
    assert truncated.all() and not first.any()
    assert np.array_equal(frames, expected)
    frames, rewards, terminated, truncated, _ = next_step.step(action)
    assert not rewards.any() and not terminated.any() and not truncated.any()
    bare.restart()
    assert np.array_equal(frames, bare.observe()[0])
    next_step.close()


@pytest.mark.parametrize("mode", ["easy", "hard"])
def test_nothing_tells_a_harmless_copy_from_the_game_before_it_ends(mode):
    """So the copy's frame at the step that ends the game is the one that procgen does not show.

    The levels of this seed end by the coin, saws, enemies and, twice, lava.
    """
    game = procgen_rows.ProcgenRows(1, rand_seed=7, distribution_mode=mode)
    copy, cheap = (procgen_rows.ProcgenRows(1, distribution_mode=mode) for _ in range(2))
    rng = np.random.default_rng(11)
    ends = coin_frames = 0
    while ends < 25:
        model = game.save(0)
        copy.load(0, harmless(model))
        cheap.load(0, drawn_cheaply(harmless(model)))
        ended = False
        while not ended:
            move = MOVES[going_right(rng, (1,))]
            for games in (game, copy, cheap):
                games.act(move)
            ended = game.ended[0]
            assert not copy.ended[0]
            assert ended or np.array_equal(copy.frames, game.frames)
            coin_frames += has_gold(copy.frames[0])
        cheap.load(0, drawn_like(cheap.save(0), model))
        assert np.array_equal(cheap.frames, copy.frames)
        assert cheap.save(0) == copy.save(0)
        ends += 1
    assert coin_frames > 200
    for games in (game, copy, cheap):
        games.close()


def test_the_final_frame_is_that_of_a_harmless_copy_of_the_whole_episode():
    """However long the episode was: its frames come from snapshots taken on the way."""
    rows, copies = CoinRunRows(5), procgen_rows.ProcgenRows(5)
    rng = np.random.default_rng(13)
    lengths, length = [], np.zeros(5, int)
    for row in range(5):
        rows.seed(row, row)
        rows.begin(row)
        copies.load(row, harmless(rows.shown(row)))
    while len(lengths) < 25:
        waits = length < 60 * np.arange(5)  # so that some episodes last for several snapshots
        moves = MOVES[np.where(waits, 0, going_right(rng, (5,)))]
        rows.act(moves, np.ones(5, bool))
        copies.act(moves)
        length += 1
        assert np.array_equal(rows.games.frames, copies.frames)
        for row in np.flatnonzero(rows.games.ended):
            lengths.append(length[row])
            length[row] = 0
            rows.begin(row)
            copies.load(row, harmless(rows.shown(row)))
    rows.close(), copies.close()
    assert min(lengths) < 100 and max(lengths) > 220


def test_the_final_frame_of_a_level_shows_the_coin_reached():
    """Where the agent does not stand right before the coin, which hides it."""
    env = CoinRunVectorEnv(16, autoreset_mode="SameStep", distribution_mode="easy")
    before, _ = env.reset(seed=3)
    seen = 0
    for action in going_right(np.random.default_rng(2), (300, 16)):
        frames, rewards, *_, infos = env.step(action)
        for row in np.flatnonzero(rewards == 10):
            final = infos["final_obs"][row]
            assert not np.array_equal(final, before[row]), "the last step changed nothing"
            assert not np.array_equal(final, frames[row]), "this is the next level already"
            seen += has_gold(final[24:40, 24:40])
            assert not has_gold(frames[row][24:40, 24:40])
        before = frames
    env.close()
    assert seen >= 8


def test_levels_follow_each_other_alike_in_all_modes_even_if_a_row_dies_right_after_its_time():
    env = CoinRunEnv(num_levels=0)
    for seed in range(60, 90):
        actions, levels = dies_while_idle(env, seed)
        if actions is not None:
            break
    assert actions is not None, "no seed here dies on a step without a key pressed"
    horizon = len(actions) - 1
    for mode in ("NextStep", "SameStep", "Disabled"):
        rows = CoinRunVectorEnv(2, autoreset_mode=mode, max_episode_steps=horizon)
        rows.reset(seed=seed)
        for step, action in enumerate(actions[:horizon]):
            *_, truncated, infos = rows.step(np.array([action, 0]))
            if step == 0:  # so that the other row still plays when this one is out of time
                rows.reset(options={"reset_mask": np.array([False, True])})
        assert truncated.tolist() == [True, False]
        if mode == "NextStep":
            *_, infos = rows.step(np.zeros(2, int))
        if mode == "Disabled":
            _, infos = rows.reset(options={"reset_mask": truncated})
        assert infos["level_seed"][0] == levels[1], mode
        rows.close()
    env.close()


def dies_while_idle(env, seed):
    """Actions that end in death on a NOOP, with the levels before and after; None if none do."""
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed)
    first, actions, ended = info["level_seed"], [], False
    while not ended and len(actions) < 300:
        actions.append(int(going_right(rng, ())) if rng.random() < 0.7 else 0)
        _, reward, ended, _, _ = env.step(actions[-1])
    if not ended or reward > 0 or actions[-1] != 0:
        return None, None
    return actions, (first, env.reset()[1]["level_seed"])


def has_gold(picture):
    """Whether the coin's colour is in a picture; the agent is always in the middle of a frame."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return ((red > 220) & (abs(green - 205) < 25) & (blue < 60)).any()

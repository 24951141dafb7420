"""The dreams of `genie-gym play`: the env's, whatever else is stepped, and rewound exactly."""

import threading
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from torch.nn.modules.module import register_module_forward_pre_hook

from genie_gym.play.dreams import DreamRows
from genie_gym.play.line import DEPTH, Line
from genie_gym.play.real_game import RealGame
from genie_gym.play.recording import Take
from genie_gym.play.session import Session
from world_models.episodes import EpisodeInfo

ACTIONS = np.random.default_rng(0).integers(7, size=(3, 130)).tolist()


@pytest.fixture(scope="module")
def rows(world, one_thread):
    return DreamRows(world, 1)


@pytest.fixture(scope="module")
def endless(world):
    """The same world, whose dreams never end."""
    return DreamRows(replace(world, card=replace(world.card, outcomes=False)), 1)


def played(line, actions):
    """The frames of these steps."""
    frames = []
    for action in actions:
        line.add(action, line.player.step(action))
        frames.append(line.moment.frame)
    return frames


def test_each_dream_is_the_envs_whatever_is_stepped_beside_it(rows, coinrun_world):
    dreams = [rows.begin(seed) for seed in range(3)]
    seen: list[list] = [[], [], []]
    for turn in range(24):
        together = [0, 1, 2] if turn % 4 < 2 else [2, 0] if turn % 4 == 2 else [1]
        actions = [ACTIONS[number][len(seen[number])] for number in together]
        moments = rows.step([dreams[number] for number in together], actions)
        for number, moment in zip(together, moments, strict=True):
            seen[number].append(moment)
    for seed, moments in enumerate(seen):
        env = gym.make(
            "GenieRedux/CoinRun-v0", world=coinrun_world, dtype="float32", max_episode_steps=-1
        ).unwrapped
        env.reset(seed=seed)
        ended = False
        for action, moment in zip(ACTIONS[seed], moments, strict=False):
            if ended:
                break
            frame, reward, ended, _, info = env.step(action)
            assert (frame == moment.frame).all()
            assert (reward, ended) == (pytest.approx(moment.reward), moment.ended)
            assert info["entropy"] == pytest.approx(moment.entropy)
            assert moment.patches.shape == (rows.grid**2,) and moment.patches.any()
        env.close()


def test_dreams_that_are_stepped_together_are_divided_between_threads(rows, world):
    where = set()
    hook = register_module_forward_pre_hook(lambda *_: where.add(threading.current_thread().name))
    divided = DreamRows(world, 2)
    shared = divided.step([divided.begin(seed) for seed in range(8)], [1] * 8)
    hook.remove()
    assert len([name for name in where if name.startswith("dream_")]) == 2
    alone = [rows.begin(seed).step(1) for seed in range(8)]
    for one, other in zip(shared, alone, strict=True):
        assert (one.frame == other.frame).all()


@pytest.mark.parametrize("kind", ["dream", "real"])
def test_a_line_goes_back_100_frames_and_takes_the_same_steps_again(rows, world, kind):
    if kind == "dream":
        player = rows.begin(5)
    else:
        player = RealGame(world.card.env_id, world.card.env_kwargs, 5)
    line = Line(player)
    actions = [3, 1, 0, 2, 2] * 26  # stays near the start, where nothing ends the game
    frames = played(line, actions)
    assert line.end == line.now == 130 and line.earliest == 130 - DEPTH
    assert len(line._keys) <= DEPTH // 10 + 2  # a state has megabytes
    line.seek(0)
    assert line.now == 30
    line.seek(34)
    assert (line.moment.frame == frames[33]).all()
    line.cut()
    assert line.end == 34
    again = played(line, actions[34:])
    assert (np.stack(again) == np.stack(frames[34:])).all()
    player.close()


def test_a_branch_has_the_same_past_and_leaves_the_first_its_future(rows):
    first = Line(rows.begin(3))
    frames = played(first, [1] * 25)
    first.seek(17)
    second = first.fork(first.player.copy())
    assert second.end == 17 and first.end == 25
    assert (second.moment.frame == first.moment.frame).all()
    assert (np.stack(played(second, [1] * 8)) == np.stack(frames[17:])).all()
    second.seek(8)
    assert (second.moment.frame == frames[7]).all()
    assert not first.needs_step() and (first.moment.frame == frames[17]).all()


class Wall:
    """A viewer that nobody looks at."""

    def show(self, packet):
        self.packet = packet

    def tell(self, message):
        self.message = message


def step(session, count=1):
    for _ in range(count):
        jobs = session.begin_step(0.0)
        if jobs:
            actions = [action for _, action in jobs]
            moments = session.rows.step([line.player for line, _ in jobs], actions)
            for (line, action), moment in zip(jobs, moments, strict=True):
                line.add(action, moment)
            session.end_step()


def test_rewinding_rewinds_the_recording(rows):
    session = Session("", Wall(), rows, 3)
    step(session, 4)
    session.record(True)
    step(session, 12)
    session.rewind(5)
    step(session, 2)
    assert len(session.recording) == 9
    shown = [moment.frame for moment in session.live._moments[4:]]
    assert (session.recording.dream.frames() == np.stack(shown)).all()
    session.rewind(10)  # to before it began
    step(session)
    assert len(session.recording) == 1
    session.record(False)
    assert len(session.finished) == 1 and session.recording is None


def test_a_branch_rewinds_the_recording(endless):
    session = Session("", Wall(), endless, 3)
    step(session, 4)
    session.record(True)
    step(session, 12)
    session.rewind(5)
    session.branch()
    step(session, 2)
    assert len(session.recording) == 9
    shown = [moment.frame for moment in session.live._moments[4:]]
    assert (session.recording.dream.frames() == np.stack(shown)).all()
    session.keep(1)
    session.rewind(10)  # to before it began
    session.branch()
    step(session)
    assert len(session.recording) == 1
    assert (session.recording.dream.frames()[-1] == session.live.moment.frame).all()


def test_a_short_press_counts_and_then_the_newest_key(rows):
    from genie_gym.play.commands import Command

    session = Session("", Wall(), rows, 3)
    taken, keys = [], iter(range(1, 20))
    for wishes in ([3, 0], [], [1], [], [2], [0]):
        for wish in wishes:
            session.act(Command(do="act", value=wish, key=next(keys)))
        step(session)
        taken.append(session.last_action)
    assert taken == [3, 0, 1, 1, 2, 0]


def test_a_real_game_follows_the_branch_that_is_kept(rows, world):
    session = Session("", Wall(), rows, 3)
    session.set_real(RealGame(world.card.env_id, world.card.env_kwargs, 3))
    session.held = 1
    step(session, 12)
    ran = session.real.moment
    session.rewind(8)
    session.branch()
    session.held = 2
    step(session, 8)
    assert session.real.now == 12 and not (session.real.moment.frame == ran.frame).all()
    session.keep(0)
    assert session.live.now == session.real.now == 12
    assert (session.real.moment.frame == ran.frame).all()
    session.dream_on()
    assert session.live.now == 12 and (session.live.moment.frame == ran.frame).all()
    session.close()


def test_a_real_game_follows_a_branch_from_where_both_were_rewound_to(endless, world):
    session = Session("", Wall(), endless, 3)
    session.set_real(RealGame(world.card.env_id, world.card.env_kwargs, 3))
    session.held = 1
    step(session, 7)
    ran = session.real.moment
    step(session, 5)
    session.rewind(4)
    session.branch()
    step(session, 2)
    session.rewind(6)  # to before the branches parted
    session.held = 2
    step(session, 3)
    assert not (session.real.moment.frame == ran.frame).all()
    session.keep(0)
    assert session.live.now == session.real.now == 7
    assert (session.real.moment.frame == ran.frame).all()
    session.branch()
    step(session, 2)
    session.rewind(3)  # before they parted, and nothing played from there
    session.keep(0)
    assert session.live.now == session.real.now == 6
    session.close()


def test_a_real_game_that_would_have_to_go_back_too_far_is_switched_off(endless, world):
    session = Session("", wall := Wall(), endless, 3)
    session.set_real(RealGame(world.card.env_id, world.card.env_kwargs, 3))
    step(session, 5)
    session.branch()
    step(session, DEPTH + 1)
    now = session.live.now
    session.keep(0)
    assert session.real is None and "real game is off" in wall.message["notice"]
    step(session)
    assert session.live.now == now + 1


def test_a_time_limit_is_stored_as_truncation_and_a_won_game_as_termination():
    info = EpisodeInfo(env_id="x", action_set="x", action_meanings=tuple("ABCDE"))
    stay, right, down = 0, 1, 3
    for plan, ends in (([stay] * 60, (False, True)), ([right, down] * 3, (True, False))):
        game = RealGame("tests.picture_env:PictureGame-v0", {}, 0)
        take = Take(game.last)
        for action in plan:
            if not game.last.ended:
                take.add(action, game.step(action))
        game.close()
        assert game.last.ended
        episode = take.episode(info)
        assert (episode.terminated, episode.truncated) == ends


def test_a_take_that_goes_on_is_truncated(rows):
    dream = rows.begin(1)
    take = Take(dream.last)
    take.add(1, dream.step(1))
    info = EpisodeInfo(env_id="x", action_set="coinrun-7", action_meanings=("A", "B"))
    episode = take.episode(info)
    assert (episode.terminated, episode.truncated) == (dream.last.ended, not dream.last.ended)
    assert episode.frames.shape[0] == 2

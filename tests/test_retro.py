"""The retro envs show what stable-retro shows, begin alike, come back alike, and die loudly."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from genie_gym.envs.frames import fit_square
from genie_gym.envs.retro import RetroEnv, RetroVectorEnv
from genie_gym.errors import MissingRomError, WorkerDiedError
from genie_gym.retroact import catalogue, roms

EIGHT = (
    "Airstriker-Genesis",
    "Alien-Atari2600",
    "Breakout-Atari2600",
    "Freeway-Atari2600",
    "Kangaroo-Atari2600",
    "MontezumaRevenge-Atari2600",
    "Pong-Atari2600",
    "Seaquest-Atari2600",
)


def chosen(steps, seed=0, count=5):
    return np.random.default_rng(seed).integers(count, size=steps).tolist()


def play(env, actions):
    """Frames, rewards, terminations and infos; an ended episode is followed by the next one."""
    told = []
    for action in actions:
        frame, reward, terminated, _, info = env.step(action)
        told.append((frame.tobytes(), reward, terminated, info))
        if terminated:
            frame, info = env.reset()
            told.append((frame.tobytes(), 0.0, False, info))
    return told


def processes(env):
    rows = env.unwrapped.vector_env if isinstance(env.unwrapped, RetroEnv) else env.unwrapped
    return [worker.pid for worker in rows._workers]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, seconds=5.0):
    """Whether all these processes have ended, or do so soon."""
    deadline = time.monotonic() + seconds
    while any(running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(running(pid) for pid in pids)


# The same numbers as stable-retro ----------------------------------------------------------------

BARE = """
import json, sys
import numpy as np, stable_retro
from genie_gym.actions import action_set, retro_buttons
from genie_gym.envs.frames import fit_square

game, platform, flicker, actions, out = sys.argv[1:]
env = stable_retro.RetroEnv(game, render_mode=None)
pressed = retro_buttons(action_set("retroact-7"), platform)
masks = [np.array([button in names for button in env.buttons], np.uint8) for names in pressed]
frames, outcomes = [fit_square(env.reset()[0], 64)], []
for action in json.loads(actions):
    screens, reward = [], 0.0
    for _ in range(4):
        screen, gained, done, _, info = env.step(masks[action])
        screens.append(screen)
        reward += gained
        if done:
            break
    shown = np.maximum(*screens[-2:]) if flicker == "1" and len(screens) == 4 else screens[-1]
    frames.append(fit_square(shown, 64))
    outcomes.append([reward, done, info])
    if done:
        frames.append(fit_square(env.reset()[0], 64))
np.save(out, np.array(frames))
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("name", ["Airstriker-Genesis", "Pong-Atari2600", "Alien-Atari2600"])
def test_everything_is_as_in_bare_stable_retro(name, tmp_path):
    game, actions = catalogue.game(name), chosen(400, seed=3, count=7)
    flicker = str(int(game.platform == "Atari2600"))
    arguments = [game.retro_id, game.platform, flicker, json.dumps(actions), str(tmp_path / "f")]
    bare = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=True
    )
    env = RetroEnv(name, action_set="retroact-7")
    frames, outcomes = [env.reset(seed=0)[0]], []
    for action in actions:
        frame, reward, terminated, truncated, info = env.step(action)
        assert not truncated
        frames.append(frame)
        outcomes.append([reward, terminated, info])
        if terminated:
            frames.append(env.reset()[0])
    env.close()
    assert outcomes == json.loads(bare.stdout.splitlines()[-1])
    assert np.array_equal(np.array(frames), np.load(tmp_path / "f.npy"))
    assert len({reward for reward, _, _ in outcomes}) > 1, "no reward: the test shows little"


def test_info_has_the_games_variables_as_integers_from_the_reset_on():
    with open(roms.game_dir("Kangaroo-Atari2600") / "data.json") as file:
        names = set(json.load(file)["info"])
    env = RetroEnv("Kangaroo-Atari2600")
    _, first = env.reset(seed=0)
    *_, second = env.step(0)
    env.close()
    assert set(first) == set(second) == names
    assert all(type(value) is int for info in (first, second) for value in info.values())


def test_a_screen_is_padded_to_a_square_and_averaged_by_area():
    screen = np.zeros((8, 4, 3), np.uint8)
    screen[2:4, 0:2] = (10, 20, 30)
    screen[2, 2], screen[7] = (40, 0, 0), 255
    frame = fit_square(screen, 4)
    expected = np.zeros((4, 4, 3), np.uint8)
    expected[1, 1], expected[1, 2], expected[3, 1:3] = (10, 20, 30), (10, 0, 0), 128
    assert np.array_equal(frame, expected)
    assert fit_square(np.full((224, 320, 3), 77, np.uint8), 64)[32].tolist() == [[77] * 3] * 64


@pytest.mark.parametrize(("name", "native"), [("Pong-Atari2600", (210, 160, 3)), (EIGHT[0], None)])
def test_the_picture_is_the_whole_screen_that_the_frame_was_made_of(name, native):
    env = gym.make(f"RetroAct/{name}-v0", render_mode="rgb_array")
    env.reset(seed=0)
    for action in chosen(20):
        frame, *_ = env.step(action)
    picture = env.render()
    assert picture.shape == (native or (224, 320, 3))
    assert np.array_equal(fit_square(picture, 64), frame)
    state = env.unwrapped.save_state()
    env.reset()
    env.unwrapped.load_state(state)
    assert np.array_equal(env.render(), picture)
    env.close()


# The same again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [EIGHT[0], "Breakout-Atari2600", "MontezumaRevenge-Atari2600"])
def test_an_episode_is_the_same_in_each_process_and_after_others(name):
    env, fresh = RetroEnv(name), RetroEnv(name)
    env.reset(seed=0)
    play(env, chosen(70, seed=1))
    first = [env.reset()[0].tobytes(), *play(env, chosen(50, seed=2))]
    assert first == [fresh.reset(seed=9)[0].tobytes(), *play(fresh, chosen(50, seed=2))]
    env.close()
    fresh.close()


@pytest.mark.parametrize(
    "name", ["Breakout-Atari2600", "Jamesbond-Atari2600", "Seaquest-Atari2600", EIGHT[0]]
)
def test_a_state_saved_in_mid_play_has_the_same_future_in_another_process(name):
    env, other = RetroEnv(name), RetroEnv(name)
    env.reset(seed=0)
    play(env, chosen(90, seed=4))
    state = env.save_state()
    future = play(env, chosen(150, seed=5))
    assert len({frame for frame, *_ in future}) > 50
    for again in (other, env):
        again.load_state(state)
        play(again, chosen(20, seed=6))
        again.load_state(state)
        assert play(again, chosen(150, seed=5)) == future
    env.close()
    other.close()


def test_the_memory_of_a_script_that_gives_rewards_is_saved_too(tmp_path, monkeypatch):
    game = tmp_path / "stable" / "Airstriker-Genesis-v0"
    shutil.copytree(roms.game_dir("Airstriker-Genesis"), game)
    (game / "script.lua").write_text("n = 0\nfunction count() n = n + 1 return n end\n")
    scenario = {"reward": {"script": "lua:count"}, "done": {}, "scripts": ["script.lua"]}
    (game / "scenario.json").write_text(json.dumps(scenario))
    monkeypatch.setenv("RETRO_DATA_PATH", str(tmp_path))
    env, other = (
        RetroEnv("Airstriker-Genesis", frame_skip=1),
        RetroEnv("Airstriker-Genesis", frame_skip=1),
    )
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(10)]
    assert rewards == list(np.arange(10) + rewards[0])
    other.load_state(env.save_state())
    assert other.step(0)[1] == rewards[-1] + 1 == env.step(0)[1]
    env.close()
    other.close()


def test_equal_moments_have_equal_states_and_states_know_their_frame_skip():
    name = "Kangaroo-Atari2600"
    env, other = RetroVectorEnv(name, num_envs=2), RetroEnv(name, frame_skip=2)
    env.reset(seed=[5, 5])
    for action in chosen(30):
        env.step(np.array([action, action]))
    first, second = env.save_state()
    assert first == second
    with pytest.raises(ValueError, match="frame_skip=4, but the env has frame_skip=2"):
        other.load_state(first)
    env.close()
    other.close()


def test_start_states_and_frame_sizes_can_be_chosen():
    known = roms.states(roms.game_dir("FishingDerby-Atari2600"))
    frames = []
    for state in known:
        env = RetroEnv("FishingDerby-Atari2600", state=state, frame_size=84)
        frames.append(env.reset(seed=0)[0])
        env.close()
    assert len(known) == 2 and frames[0].shape == (84, 84, 3)
    assert not np.array_equal(*frames)


# Errors ------------------------------------------------------------------------------------------


def test_wrong_arguments_are_answered_with_the_right_ones():
    with pytest.raises(ValueError, match="Did you mean 'Kangaroo-Atari2600'"):
        RetroEnv("Kangaro-Atari2600")
    with pytest.raises(ValueError, match="no start state 'start'.*Did you mean 'Start'"):
        RetroEnv("Kangaroo-Atari2600", state="start")
    with pytest.raises(ValueError, match="frame_skip=0"):
        RetroEnv("Kangaroo-Atari2600", frame_skip=0)
    with pytest.raises(ValueError, match="Set action_set to one of"):
        RetroEnv("Kangaroo-Atari2600", action_set="coinrun-7")
    missing = next(game for game in catalogue.games() if game not in catalogue.playable_games())
    with pytest.raises(MissingRomError, match=f"{missing.name}.*genie-gym roms import"):
        gym.make(missing.env_id)


def test_an_emulator_that_cannot_start_says_why(tmp_path, monkeypatch):
    game = tmp_path / "stable" / "Kangaroo-Atari2600-v0"
    shutil.copytree(roms.game_dir("Kangaroo-Atari2600"), game)
    (game / "data.json").write_text("{")
    monkeypatch.setenv("RETRO_DATA_PATH", str(tmp_path))
    env = RetroEnv("Kangaroo-Atari2600")
    with pytest.raises(WorkerDiedError, match="exit code 1(.|\n)*Failed to load info"):
        env.reset(seed=0)
    env.close()


def test_of_eight_games_at_once_one_is_killed_and_the_others_go_on():
    envs = [gym.make(f"RetroAct/{name}-v0", disable_env_checker=True) for name in EIGHT]
    for env in envs:
        env.reset(seed=0)
    victim = envs[4]
    os.kill(processes(victim)[0], signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(WorkerDiedError, match="Kangaroo-Atari2600.*SIGKILL.*reset()"):
        for action in range(5):
            victim.step(action)
    assert time.monotonic() - begun < 5
    with pytest.raises(gym.error.ResetNeeded):
        victim.step(0)
    for env in envs[:4] + envs[5:]:
        assert env.step(0)[0].any()
    assert victim.reset()[0].any() and victim.step(0)[0].any()
    children = [child for env in envs for child in processes(env)]
    for env in envs:
        env.close()
    assert gone(children)


def test_an_emulator_that_does_not_answer_is_killed_and_replaced():
    env = RetroVectorEnv("Pong-Atari2600", num_envs=2, timeout=1.0)
    first, _ = env.reset(seed=0)
    stuck, other = processes(env)
    os.kill(stuck, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(WorkerDiedError, match="row 0 .* did not answer within 1 s"):
        env.step(np.zeros(2, int))
    assert time.monotonic() - begun < 5
    assert gone([stuck]) and running(other)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2, int))
    assert np.array_equal(env.reset()[0], first)
    os.kill(processes(env)[1], signal.SIGSTOP)
    children = processes(env)
    env.close()
    assert gone(children)


def test_a_fork_cannot_use_the_env_nor_harm_it():
    env = RetroEnv("Pong-Atari2600")
    env.reset(seed=0)
    child = os.fork()
    if child == 0:
        try:
            env.step(0)
        except RuntimeError as refusal:
            env.close()
            os._exit(7 if "cannot be used in the forked process" in str(refusal) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert env.step(0)[0].any()
    env.close()


SCRIPT = """
import os, signal, sys, time
from genie_gym.envs.retro import RetroEnv, RetroVectorEnv
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a background job
envs = [RetroEnv("Airstriker-Genesis"), RetroVectorEnv("Pong-Atari2600", num_envs=2)]
for env in envs:
    env.reset(seed=0)
rows = [envs[0].vector_env, envs[1]]
try:
    print(*[worker.pid for row in rows for worker in row._workers], flush=True)
    while True:
        *_, terminated, truncated, _ = envs[0].step(0)
        if terminated or truncated:
            envs[0].reset()
except KeyboardInterrupt:
    print("stopped", envs[0].reset()[0].any(), envs[0].step(0)[0].any(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def program(tmp_path):
    """A program with three emulators, in a session and folders of its own."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cwd").mkdir()
    root = str(Path(genie_gym.__file__).parents[1])
    started = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path / "cwd",
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": root},
    )
    started.children = [int(pid) for pid in started.stdout.readline().split()]
    yield started
    started.kill()
    started.communicate()


def test_nothing_is_left_of_a_program_that_was_killed(program, tmp_path):
    program.kill()
    program.wait()
    assert len(program.children) == 3 and gone(program.children)
    assert not list((tmp_path / "tmp").iterdir()) and not list((tmp_path / "cwd").iterdir())


def test_ctrl_c_reaches_the_program_alone(program):
    os.killpg(program.pid, signal.SIGINT)
    if not select.select([program.stdout], [], [], 60)[0]:  # as a person would: once more
        os.killpg(program.pid, signal.SIGINT)
    said = program.stdout.readline()
    assert said == "stopped True True\n", program.communicate(timeout=90)[1]
    assert all(map(running, program.children[1:]))
    program.terminate()
    assert gone(program.children)
    assert program.communicate()[1] == ""

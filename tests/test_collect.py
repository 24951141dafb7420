"""Collecting: the same dataset however the work is split, killed or stopped; frames replay."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from genie_gym.actions import action_set
from genie_gym.collect.collector import Collection, episode_seed, play_episodes
from genie_gym.collect.command import CollectConfig, collect, main
from genie_gym.collect.part import _BackgroundWriter, _Recorder
from genie_gym.collect.plans import random_plan, sticky_plan
from genie_gym.collect.policies import EpsilonGreedy
from genie_gym.collect.policy_spec import checked_spec, half_by, make_policy, shares_of
from genie_gym.collect.workers import collect_in_processes
from tests.counting_env import ACTIONS
from world_models.episodes import (
    EpisodeDataset,
    EpisodeInfo,
    EpisodeWriter,
    Transitions,
    existing_indices,
    verify,
)
from world_models.episodes.manifest import read_manifest
from world_models.episodes.shard import CHUNK_FRAMES

gym.register(
    "Test/Counting-v0",
    entry_point="tests.counting_env:CountingEnv",
    vector_entry_point="tests.counting_env:CountingVectorEnv",
)
COINRUN = "Procgen/CoinRun-v0"
KILLS = int(os.environ.get("GENIE_GYM_KILLS", "3"))


def contents(path: Path) -> dict[int, tuple]:
    """Every episode by its number: the whole of what was stored."""
    dataset = EpisodeDataset(path)
    episodes = {}
    for place in range(len(dataset)):
        episode = dataset.episode(place)
        assert episode.info.index not in episodes, "an episode is there twice"
        episodes[episode.info.index] = (
            episode.frames.tobytes(),
            episode.actions.tobytes(),
            episode.rewards.tobytes(),
            episode.terminated,
            episode.truncated,
            episode.info.seed,
        )
    return episodes


def test_episodes_say_what_happened():
    collection = Collection(env_id="Test/Counting-v0", max_steps=6, seed=3)
    episodes = {e.info.index: e for e in play_episodes(collection, list(range(20)), num_envs=3)}
    assert sorted(episodes) == list(range(20))
    for index, episode in episodes.items():
        drawn, counter, steps = (episode.frames[:, 0, place, 0].astype(int) for place in range(3))
        assert (drawn == drawn[0]).all(), "all frames are of one episode"
        assert steps.tolist() == list(range(len(episode.actions) + 1))
        assert np.array_equal(np.diff(counter), episode.actions % 2), "actions[t] leads to t+1"
        assert np.array_equal(episode.rewards, episode.actions % 2)
        assert episode.terminated == (episode.actions[-1] == ACTIONS.index("END"))
        assert not (episode.actions[:-1] == ACTIONS.index("END")).any()
        assert episode.truncated == (not episode.terminated and len(episode.actions) == 6)
        assert episode.info.seed == episode_seed(3, index)


@pytest.mark.parametrize("num_envs", [1, 2, 7, 64])
def test_episodes_do_not_depend_on_the_number_of_rows(num_envs):
    collection = Collection(env_id="Test/Counting-v0", max_steps=6, epsilon=0.3, policy="sticky")
    alone = {e.info.index: e for e in play_episodes(collection, list(range(9)), num_envs=1)}
    for episode in play_episodes(collection, list(range(9)), num_envs=num_envs):
        other = alone[episode.info.index]
        assert np.array_equal(episode.frames, other.frames)
        assert np.array_equal(episode.actions, other.actions)


def test_workers_parts_and_interruptions_give_the_same_dataset(tmp_path):
    given = {"env": COINRUN, "max_steps": 40, "episodes": 10, "num_envs": 4}
    assert collect(CollectConfig(out=tmp_path / "one", **given)) == 0
    expected = contents(tmp_path / "one")
    assert sorted(expected) == list(range(10))
    assert collect(CollectConfig(out=tmp_path / "two", workers=2, **given)) == 0
    assert contents(tmp_path / "two") == expected
    for part in ("1/3", "0/3", "2/3"):
        assert collect(CollectConfig(out=tmp_path / "parts", part=part, **given)) == 0
    assert contents(tmp_path / "parts") == expected
    collect(CollectConfig(out=tmp_path / "more", **{**given, "episodes": 4}))
    collect(CollectConfig(out=tmp_path / "more", **given))
    assert contents(tmp_path / "more") == expected


def test_a_worker_takes_any_number_of_episodes(tmp_path):
    """Their numbers are longer than an argument of a command may be, and than a pipe holds."""
    reported: list[int] = []
    collect_in_processes(
        Collection(env_id=COINRUN, max_steps=4),
        [list(range(30_000))],
        tmp_path,
        num_envs=2,
        names=["a"],
        flush_seconds=10.0,
        on_progress=lambda steps, episodes: reported.append(episodes),
        should_stop=lambda: bool(reported),
    )
    assert 0 < len(EpisodeDataset(tmp_path)) == sum(reported) < 30_000


def test_nothing_is_collected_twice_by_a_process_that_starts_as_another_ends(tmp_path, monkeypatch):
    given = CollectConfig(env=COINRUN, out=tmp_path, episodes=2, max_steps=4)

    def other(out, collection):  # between the first look at the dataset and the lock
        monkeypatch.undo()
        assert collect(given) == 0

    monkeypatch.setattr("genie_gym.collect.command._tell_of_others", other)
    assert collect(given) == 0
    assert sum(len(record.entries) for record in read_manifest(tmp_path).records) == 2


def test_a_finished_episode_is_on_disk_in_time_though_no_other_one_ends(tmp_path):
    frame = np.zeros((8, 8, 3), np.uint8)
    info = EpisodeInfo(env_id="Test", action_set="a", action_meanings=("A",), index=0)
    end = Transitions(
        actions=np.zeros(1, np.int64),
        rewards=np.zeros(1),
        terminated=True,
        truncated=False,
        info=info,
    )
    writer = EpisodeWriter(tmp_path, name="a")
    with writer, _BackgroundWriter(writer, flush_seconds=0.2) as background:
        short, long = _Recorder(background), _Recorder(background)
        for _ in range(2):
            short.add(frame)
        short.finish(end)
        time.sleep(0.3)
        for _ in range(CHUNK_FRAMES):
            long.add(frame)
        deadline = time.monotonic() + 5
        while not existing_indices(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def command(out: Path, episodes: int, workers: int = 1) -> list[str]:
    return [
        *(sys.executable, "-m", "genie_gym.cli", "collect", COINRUN, "--out", str(out)),
        *("--episodes", str(episodes), "--max-steps", "150", "--num-envs", "8"),
        *("--workers", str(workers), "--flush-seconds", "0.5"),
    ]


def wait_for_episodes(path: Path, more_than: int, process: subprocess.Popen) -> None:
    """Returns when another episode is on disk, or the process has ended."""
    deadline = time.monotonic() + 120
    while len(existing_indices(path)) <= more_than and process.poll() is None:
        assert time.monotonic() < deadline, "nothing was collected"
        time.sleep(0.02)


def kill_with_children(process: subprocess.Popen) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = [process.pid, *map(int, children.read_text().split() if children.exists() else [])]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def test_killed_at_random_moments_it_loses_nothing_and_ends_the_same(tmp_path):
    """Kill -9 (20 times with GENIE_GYM_KILLS=20): what a manifest named stays, nothing else."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    episodes = 100 * KILLS
    subprocess.run(command(whole, episodes), check=True, capture_output=True)
    moments = random.Random(1)
    named: dict[int, tuple] = {}
    for kill in range(KILLS):
        process = subprocess.Popen(
            command(killed, episodes, workers=1 + kill % 2),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if kill % 4:  # now and then before it has done anything
            wait_for_episodes(killed, len(named), process)
        time.sleep(moments.uniform(0, 0.6))
        kill_with_children(process)
        now = contents(killed) if existing_indices(killed) else {}
        assert named.items() <= now.items(), "an episode that a manifest named is lost or changed"
        named = now
    assert named, "every kill came before the work"
    subprocess.run(command(killed, episodes), check=True, capture_output=True)
    assert verify(killed).damage == []
    assert contents(killed) == contents(whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path, workers):
    process = subprocess.Popen(
        command(tmp_path, 20_000, workers=workers),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_episodes(tmp_path, 0, process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "run the same command to resume" in printed
    assert "Traceback" not in errors
    count = len(EpisodeDataset(tmp_path))
    assert 0 < count < 20_000
    assert verify(tmp_path).damage == []
    done = subprocess.run(command(tmp_path, count), capture_output=True, text=True, check=True)
    assert "episodes already" in done.stdout or len(EpisodeDataset(tmp_path)) >= count


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        (COINRUN, {}),
        ("RetroAct/Kangaroo-Atari2600-v0", {}),
        ("RetroAct/Qbert-Atari2600-v0", {"action_set": "retroact-7"}),
    ],
)
def test_stored_seed_and_actions_reproduce_the_stored_frames(tmp_path, env_id, kwargs):
    config = CollectConfig(
        env=env_id, out=tmp_path, episodes=3, max_steps=120, num_envs=2, policy="sticky",
        env_kwargs={key: str(value) for key, value in kwargs.items()},
    )  # fmt: skip
    collect(config)
    dataset = EpisodeDataset(tmp_path)
    env = gym.make(env_id, max_episode_steps=120, **kwargs)
    for place in range(len(dataset)):
        episode = dataset.episode(place)
        frame, _ = env.reset(seed=episode.info.seed)
        assert np.array_equal(frame, episode.frames[0])
        for step, action in enumerate(episode.actions):
            frame, reward, terminated, truncated, _ = env.step(int(action))
            assert np.array_equal(frame, episode.frames[step + 1])
            assert reward == episode.rewards[step]
        assert (terminated, truncated) == (episode.terminated, episode.truncated)
    env.close()


def test_sticky_holds_its_actions_and_gets_further_than_random():
    actions = action_set("coinrun-7")
    plan = sticky_plan(actions)(np.random.default_rng(0), 20_000)
    assert 0.1 < (np.diff(plan) != 0).mean() < 0.13, "actions are held about 8 steps"
    returns = {}
    for policy in ("random", "sticky"):
        collection = Collection(
            env_id=COINRUN, policy=policy, max_steps=400, env_kwargs={"distribution_mode": "easy"}
        )
        episodes = play_episodes(collection, list(range(48)), num_envs=48)
        returns[policy] = np.mean([episode.rewards.sum() for episode in episodes])
    assert returns["sticky"] > returns["random"] + 1, returns


def test_epsilon_replaces_its_share_of_actions_and_no_other():
    actions = action_set("coinrun-7")
    shapes = {"num_envs": 1, "max_steps": 4000}
    pure = make_policy("sticky", actions, **shapes)
    mixed = make_policy("sticky", actions, epsilon=0.2, **shapes)
    assert isinstance(mixed, EpsilonGreedy)
    pure.begin(0, np.random.default_rng(5).spawn(3)[0])
    mixed.begin(0, np.random.default_rng(5))
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    left = np.array([pure.act(frames)[0] for _ in range(4000)])
    right = np.array([mixed.act(frames)[0] for _ in range(4000)])
    assert abs((left != right).mean() - 0.2 * 6 / 7) < 0.03


@pytest.mark.parametrize("name", ["agent", "mixed", "lr=0.001", "a,b", "a=b,c=d", "x=1,y=2"])
def test_the_folder_of_an_agent_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    assert checked_spec(f"runs/{name}") == checked_spec(str(folder)) == str(folder)
    if name != "x=1,y=2":
        spec = f"sticky=2,runs/{name}=0.5,random=1"
        assert shares_of(spec) == {"sticky": 2, str(folder): 0.5, "random": 1}
        assert checked_spec(checked_spec(spec)) == f"sticky=2,{folder}=0.5,random=1"


def test_an_agent_plays_half_of_the_episodes_whatever_the_other_shares_are(tmp_path):
    agent, other = tmp_path / "lr=0.1" / "agent", tmp_path / "mixed"
    other.mkdir()
    assert half_by(agent, "random=1,sticky=3") == f"random=1,sticky=3,{agent}=4"
    assert half_by(agent, str(other)) == f"{other}=1,{agent}=1"
    assert half_by(agent, "sticky") == f"sticky=1,{agent}=1"
    with pytest.raises(ValueError, match="rename the folder"):
        half_by(tmp_path / "x=1,y" / "agent", "mixed")


def test_random_is_uniform():
    drawn = random_plan(5)(np.random.default_rng(0), 50_000)
    assert np.abs(np.bincount(drawn) / 50_000 - 0.2).max() < 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"env": "RetroAct/Kangoroo-Atari2600-v0"}, "Kangaroo"),
        ({"policy": "no/such/folder"}, "folder of a saved agent"),
        ({"episodes": 0}, "episodes must be"),
        ({"part": "3/3"}, "part must be K/N"),
        ({"part": "x"}, "part must be K/N"),
        ({"epsilon": 2.0}, "epsilon"),
        ({"max_steps": 0}, "max_steps"),
        ({"num_envs": 0}, "num_envs"),
        ({"env_kwargs": {"distribution_mode": "brutal"}}, "brutal"),
        ({"env_kwargs": {"max_episode_steps": "5"}}, "must not have max_episode_steps"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(tmp_path, given, message):
    out = tmp_path / "data"
    with pytest.raises((ValueError, gym.error.Error), match=message):
        collect(CollectConfig(**{"env": COINRUN, "out": out, **given}))
    assert not out.exists() or not any(out.rglob("*.h5"))


def test_command_line_says_what_to_type_next(tmp_path, capsys):
    arguments = [COINRUN, "--out", str(tmp_path), "--episodes", "2", "--max-steps", "5"]
    assert main(arguments) == 0
    assert "data show" in capsys.readouterr().out
    assert main([*arguments, "--env-kwargs", "use_backgrounds", "false"]) == 0
    dataset = EpisodeDataset(tmp_path)
    assert len(dataset) == 4, "another collection in the same dataset"


def test_a_failing_worker_is_reported_with_its_reason(tmp_path):
    with pytest.raises(RuntimeError, match="no-such-mode"):
        collect(
            CollectConfig(
                env=COINRUN, out=tmp_path, episodes=4, workers=2,
                env_kwargs={"distribution_mode": "no-such-mode"},
            )
        )  # fmt: skip


def test_ray_collects_the_same_dataset(tmp_path):
    """In a process of its own: Ray leaves signal handlers and threads behind."""
    given = ("--episodes", "6", "--max-steps", "30", "--num-envs", "2")
    plain = [sys.executable, "-m", "genie_gym.cli", "collect", COINRUN, *given]
    subprocess.run([*plain, "--out", str(tmp_path / "plain")], check=True)
    ray = [*plain, "--workers", "2", "--ray", "--out", str(tmp_path / "ray")]
    subprocess.run(ray, check=True)
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")

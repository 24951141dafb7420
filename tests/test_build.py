"""From a game to its dream with one command: tiny, but whole, and killed on the way."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from agents.dream_train import train_for
from genie_gym.build.build import Build
from genie_gym.build.command import BuildConfig, build, main
from genie_gym.build.display import Display
from genie_gym.build.preset import camera_moves, kind_by_labels, kind_of
from genie_gym.build.recipes import WORLDS, from_play
from genie_gym.build.result import gates, report
from genie_gym.build.stages import Manifest, Stage
from genie_gym.build.timed import Timed
from genie_gym.build.work import has_events
from genie_gym.collect.command import CollectConfig, parse_value
from genie_gym.collect.policy_spec import MIXED
from genie_gym.evaluation.unseen import SEED
from genie_gym.worlds_commands import main as worlds_command
from tests.episode_data import make_episode, write_episodes
from tests.picture_env import PictureGame
from tests.tiny_build import GAME, config, tiny
from world_models.episodes import EpisodeDataset
from world_models.progress import progress_bar, shown_by
from world_models.training.run_options import DataOptions
from world_models.worlds.bundle import load_world
from world_models.worlds.card import WorldCard
from world_models.worlds.find import SHIPPED, VARIABLE

pytestmark = pytest.mark.usefixtures("one_thread")


def build_in_a_child(folder: Path) -> None:
    torch.set_num_threads(1)
    build(config(folder, GAME), tiny())
    os._exit(0)


def test_somebody_elses_env_becomes_a_dream_though_the_build_is_killed(folder, capfd):
    child = get_context("spawn").Process(target=build_in_a_child, args=(folder,))
    child.start()
    manifest = Manifest(folder / "build" / "stages.jsonl")
    while "dynamics" not in {entry["stage"] for entry in manifest.entries()}:
        assert child.is_alive(), "the build ended before it was killed"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    plan = json.loads((folder / "build" / "plan.json").read_text())
    assert "install" not in manifest.done()
    assert build(config(folder, GAME), tiny())

    started = [entry["stage"] for entry in manifest.entries() if entry["event"] == "started"]
    assert started.count("data-mixed") == started.count("tokenizer") == 1
    assert started.count("dynamics") == 2
    resumed = json.loads((folder / "build" / "plan.json").read_text())
    assert all(resumed[stage].items() >= planned.items() for stage, planned in plan.items())
    told = capfd.readouterr().out
    assert 'gymnasium.make("GenieRedux/PictureGame-v0")' in told and "better than" in told
    assert Image.open(folder / "build" / "pictures" / "strip.png").width > 200
    assert Image.open(folder / "build" / "preview.png").width > 90
    card = load_world(folder / "worlds" / "PictureGame").card
    assert card.scores["psnr_ceiling"] > 0 and card.env_id == GAME
    assert card.action_meanings == ("STAY", "RIGHT", "LEFT", "DOWN", "UP")
    assert set(card.rewards) <= {0.0, 1.0}
    dream = gym.make("GenieRedux/PictureGame-v0")
    dream.reset(seed=0)
    frame, reward, *_ = dream.step(1)
    assert frame.shape == (32, 32, 3) and np.isfinite(reward)
    dream.close()


def test_a_game_becomes_a_dream_and_its_world_is_not_overwritten(folder, capfd):
    given = config(folder, "RetroAct/Boxing-Atari2600-v0", env_kwargs={"frame_skip": "8"})
    assert build(given, tiny())
    data = EpisodeDataset(folder / "build" / "data" / "mixed")
    assert len(data) >= 8 and data.num_frames.max() == 21
    assert all(
        e.info.extra["collection"]["env_kwargs"] == {"frame_size": 32, "frame_skip": 8}
        for e in data.entries
    )
    assert (folder / "worlds" / "Boxing" / "world.json").exists()
    capfd.readouterr()
    assert build(given, tiny()), "a finished build tells its result again"
    assert "film strip" in capfd.readouterr().out
    with pytest.raises(ValueError, match="choose another --name, or add --replace"):
        build(replace(given, out=folder / "other"), tiny())
    with pytest.raises(ValueError, match="was started with seed 0, not 1"):
        build(replace(given, seed=1), tiny())


def test_the_stages_are_listed_and_a_missing_rom_is_named_before_anything_starts(folder, capsys):
    given = ["--list", "--out", str(folder / "build"), "--env-kwargs", "max_steps", "100"]
    assert main([GAME, *given]) == 0
    listed = capsys.readouterr().out.split("\n")
    assert [line.split()[-1] for line in listed[:-1]] == [
        "data-mixed",
        "tokenizer",
        "dynamics",
        "world-PictureGame",
        "score-PictureGame",
        "install",
    ]
    with pytest.raises(FileNotFoundError, match="genie-gym roms import PATH"):
        build(config(folder, "RetroAct/SuperMarioBros-Nes-v0"))
    with pytest.raises(ValueError, match="minutes must be positive"):
        config(folder, GAME, minutes=0.0)
    with pytest.raises(ValueError, match="'My Game' cannot be the name of a world model"):
        config(folder, GAME, name="My Game")
    assert not (folder / "build").exists()


def test_a_recipe_fits_into_a_time_limit(folder, monkeypatch, capsys):
    def recipe(planned):
        return from_play(planned, tiny(), max_steps=20, env_kwargs={"frame_size": 32})

    monkeypatch.setitem(WORLDS, "PictureGame", (GAME, recipe))
    command = ["make", "PictureGame", "--minutes", "0.05", "--out", str(folder / "made")]
    assert worlds_command(command) == 0
    made = folder / "made" / "worlds" / "PictureGame"
    assert f"made {made}" in capsys.readouterr().out
    assert load_world(made).card.env_id == GAME
    plan = json.loads((folder / "made" / "plan.json").read_text())
    assert plan["tokenizer"]["steps"] < tiny().tokenizer.fit.steps
    with pytest.raises(ValueError, match="cannot be combined with --scale"):
        worlds_command([*command, "--scale", "0.5"])


def test_a_round_trains_an_agent_plays_with_it_and_fine_tunes_the_world(folder, capfd, monkeypatch):
    small = {
        "eval_every": 64, "num_envs": 4, "rollout": 16, "batch_size": 32, "epochs": 1,
        "features": "small", "horizon": 12, "eval_episodes": 2, "kill": True,
    }  # fmt: skip
    monkeypatch.setattr("genie_gym.build.build.TRAIN_AGENT", "tests.test_build:train_small_agent")
    monkeypatch.setattr("tests.test_build.SMALL_AGENT", small)
    given = config(folder, GAME, rounds=1, json=folder / "result.json")
    with pytest.raises(Interrupted):
        build(given, tiny())
    assert build(given, tiny())
    manifest = Manifest(folder / "build" / "stages.jsonl")
    assert [entry["stage"] for entry in manifest.entries() if entry["event"] == "done"] == [
        "data-mixed",
        "tokenizer",
        "dynamics",
        "world-PictureGame",
        "score-PictureGame",
        "agent-round-1",
        "data-round-1",
        "dynamics-round-1",
        "world-PictureGame-round-1",
        "score-PictureGame-round-1",
        "install",
    ]
    agent = folder / "build" / "runs" / "agent-round-1"
    played = EpisodeDataset(folder / "build" / "data" / "mixed")
    policies = {entry.info.policy for entry in played.entries}
    assert {f"{MIXED},{agent}=10", MIXED} == policies
    card = load_world(folder / "worlds" / "PictureGame").card
    assert card.provenance["dynamics"].endswith("from PictureGame")
    assert card.provenance["data"]["episodes"] == len(played)
    assert f"{MIXED},{agent.name}=10" in card.provenance["data"]["policies"]
    result = json.loads((folder / "result.json").read_text())["figures"]
    assert result["minutes_given"] == 0.05 and result["minutes"] > 0
    assert result["psnr"] == pytest.approx(card.scores["psnr"], abs=1e-4)


SMALL_AGENT: dict = {}


class Interrupted(Exception):
    """Ends a build as a kill would."""


def train_small_agent(*args, **kwargs):
    if SMALL_AGENT.pop("kill", False):
        raise Interrupted
    return train_for(*args, **kwargs, **SMALL_AGENT)


class Asked:
    """Sizes that only note what is to be collected."""

    def __init__(self):
        self.configs = []

    def collect(self, stage, config, due):
        self.configs.append(config)
        return True


def test_rounds_collect_episodes_that_no_score_uses_and_env_arguments_may_have_any_name(tmp_path):
    asked, arguments = Asked(), {"max_steps": 100, "steps": 5, "seed": 7}
    planned = Build("PictureGame", GAME, tmp_path, asked)
    from_play(planned, tiny(), max_steps=20, rounds=4, env_kwargs=arguments)
    for stage in planned.stages:
        if stage.name.startswith("data-"):
            assert stage.run()
    seeds = [config.seed for config in asked.configs]
    assert len(set(seeds)) == 5 and SEED not in seeds and seeds[0] == 0
    for collected in asked.configs:
        given = {name: parse_value(text) for name, text in collected.env_kwargs.items()}
        assert given == arguments and collected.max_steps == 20
    with pytest.raises(ValueError, match="reserved for scoring worlds: use another --seed"):
        BuildConfig(env=GAME, seed=SEED)


def test_the_agent_of_a_round_plays_half_of_its_episodes(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    agent = tmp_path / "lr=0.1" / "runs" / "agent-round-1"
    policies = {"sticky=1,random=3": "sticky=1,random=3", str(folder): f"{folder}=1"}
    for policy, others in policies.items():
        planned = Build("PictureGame", GAME, tmp_path / "lr=0.1", asked := Asked())
        from_play(planned, tiny(), policy=policy, rounds=1)
        for stage in planned.stages:
            if stage.name.startswith("data-"):
                assert stage.run()
        assert asked.configs[0].policy == policy
        half = sum(float(part.split("=")[-1]) for part in others.split(","))
        assert asked.configs[1].policy == f"{others},{agent}={half:g}"
    with pytest.raises(ValueError, match="rename the folder"):
        build(config(tmp_path, GAME, rounds=1, out=tmp_path / "x=1,y"), tiny())
    assert not (tmp_path / "x=1,y").exists()


def test_the_preset_follows_the_labels_and_the_camera():
    assert kind_by_labels("Procgen/CoinRun-v0") == kind_of("Procgen/CoinRun-v0") == "scenes"
    for scrolling in ("SuperMarioBros-Nes", "1942-Nes", "Gradius-Nes"):
        assert kind_by_labels(f"RetroAct/{scrolling}-v0") == "scenes"
    assert kind_by_labels("RetroAct/SpaceInvaders-Nes-v0") == "sprites"
    assert kind_of("RetroAct/Boxing-Atari2600-v0") == "sprites"
    # A space shooter whose space is black: by its labels it scrolls, but little of it changes.
    assert kind_by_labels("RetroAct/Airstriker-Genesis-v0") == "scenes"
    assert kind_of("RetroAct/Airstriker-Genesis-v0") == "sprites"
    assert kind_by_labels(GAME) is None and kind_of(GAME, frame_size=32) == "sprites"
    assert camera_moves("Procgen/CoinRun-v0")


def test_rewards_that_cancel_out_are_events(tmp_path):
    episode = replace(make_episode(1), rewards=np.float32([1, -1] + 38 * [0]))
    write_episodes(tmp_path / "points", [episode])
    write_episodes(tmp_path / "none", [replace(episode, rewards=np.zeros(40, np.float32))])
    assert has_events(EpisodeDataset(tmp_path / "points"))
    assert not has_events(EpisodeDataset(tmp_path / "none"))


def test_a_training_gets_the_time_until_it_is_due_and_no_more_on_a_resume(tmp_path):
    """A training that needs 2 s per step is planned to end on time, and four times as long."""
    asked = []

    def train(recipe, options):
        options.out.mkdir(parents=True, exist_ok=True)
        entry = {"group": "train", "frames_per_s": recipe.fit.batch_size * recipe.frames / 2.0}
        (options.out / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
        asked.append((options.out.name, recipe.fit))
        return len(asked) != 2  # the first real training is interrupted

    manifest = Manifest(tmp_path / "stages.jsonl")
    manifest.note("data", "done", seconds=92)
    parts, options = tiny(), DataOptions(data=tmp_path, out=tmp_path / "dynamics")
    for finished in (False, True):
        sizes = Timed(10, tmp_path, manifest)
        assert sizes.train("dynamics", parts.dynamics, options, train, 0.82) is finished
        manifest.note("dynamics", "stopped", seconds=200)
    seconds = 0.95 * (0.82 * 600 - 92)
    (trial, given), (_, fit), (_, again) = asked
    assert (trial, given.steps, given.minutes) == ("dynamics-trial", 8, None)
    assert fit == again and 60 * fit.minutes == pytest.approx(seconds, abs=1)
    assert fit.steps == 4 * int(seconds / 2) and fit.warmup_steps < seconds / 2 / 4
    tokenizer = replace(options, out=tmp_path / "tokenizer")
    assert Timed(600, tmp_path, manifest).train("tokenizer", parts.tokenizer, tokenizer, train, 0.3)
    assert asked[-1][1].steps == parts.tokenizer.fit.steps, "no more than its recipe says"
    late = replace(options, out=tmp_path / "late")
    assert Timed(10, tmp_path, manifest).train("late", parts.dynamics, late, train, 0.5)
    assert 60 * asked[-1][1].minutes == pytest.approx(0.95 * 0.02 * 600), "too late, yet trained"


class SlowGame(PictureGame):
    """A game whose steps take four times as long after some."""

    def step(self, action):
        self.steps = getattr(self, "steps", 0) + 1
        time.sleep(0.01 if self.steps < 300 else 0.04)
        return super().step(action)


def test_playing_ends_on_time_though_the_game_becomes_slower(tmp_path):
    gym.register("SlowPictures-v0", SlowGame)
    given = CollectConfig(
        env="tests.test_build:SlowPictures-v0",
        out=tmp_path / "data",
        max_steps=20,
        env_kwargs={"frame_size": "32"},
        num_envs=1,
    )
    manifest, began = Manifest(tmp_path / "stages.jsonl"), time.monotonic()
    assert Timed(1, tmp_path, manifest).collect("data", given, 0.25)
    assert 8 < time.monotonic() - began < 15 * 1.2
    plan = json.loads((tmp_path / "plan.json").read_text())["data"]
    assert len(EpisodeDataset(given.out)) == plan["episodes"] > 15
    assert Timed(1, tmp_path, manifest).collect("data", given, 0.25)
    assert len(EpisodeDataset(given.out)) == plan["episodes"]


def test_the_check_is_as_large_as_its_time_allows(tmp_path):
    manifest = Manifest(tmp_path / "stages.jsonl")
    manifest.note("data", "done", seconds=500)

    def check(speed: float, num_actions: int = 5) -> tuple[str, ...]:
        card = WorldCard.read(SHIPPED / "Pong")
        card = replace(card, action_meanings=tuple(map(str, range(num_actions))))
        (tmp_path / "world.json").write_text(card.to_json())
        return Timed(10, tmp_path, manifest, lambda world: speed).checks(tmp_path, 1.0)

    assert check(500.0) == ()
    assert check(100.0) == ("--quick",)
    assert "--windows=4" in check(40.0)
    assert "--windows=2" in check(10.0)
    # More actions are more policies that the check plays: 55 instead of 16.
    assert check(500.0, 18) == ("--quick",)
    assert "--windows=4" in check(100.0, 18)
    assert "--windows=2" in check(40.0, 18)


def test_one_display_shows_stage_and_time_left_and_copies_the_newest_picture(tmp_path):
    stages = [Stage(name=name, needs=(), run=lambda: True) for name in ("play", "learn")]
    drawn = tmp_path / "runs" / "tokenizer" / "samples" / "a.png"
    drawn.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(drawn)
    shown = StringIO()
    display = Display(stages, Manifest(tmp_path / "stages.jsonl"), 10, tmp_path, shown)
    with display.showing():
        display.begin("learn")
        print("what a stage says")
        with progress_bar(total=4) as bar:
            bar.update(4)
    assert shown.getvalue() == "[2/2] learn 0%, build about 9:59 left\n"
    assert "what a stage says" in (tmp_path / "build.log").read_text()
    assert (tmp_path / "preview.png").read_bytes() == drawn.read_bytes()


def test_a_listener_hears_the_share_the_time_and_the_note():
    heard = []
    with shown_by(lambda *told: heard.append(told)), progress_bar(total=4, mininterval=0) as bar:
        bar.set_postfix_str("loss 1", refresh=False)
        bar.update(1)
        bar.refresh()
    share, left, note = heard[-1]
    assert (share, note) == (0.25, "loss 1") and left >= 0


def test_the_report_says_how_to_open_the_world(folder):
    use = '  import gymnasium, genie_gym; env = gymnasium.make("GenieRedux/Pong-v0")'
    for place in ("worlds", "other"):
        world = folder / place / "Pong"  # there is one of this name in the package, too
        shutil.copytree(SHIPPED / "Pong", world)
        told = report({"figures": {}}, world, folder).partition("to use it:\n")[2].split("\n")
        assert told == [f"  export {VARIABLE}={folder / 'other'}", use][place == "worlds" :]


def test_the_gates_tell_a_good_world_from_a_bad_one():
    good = {
        "changed_psnr": 20.0,
        "changed_psnr_copy": 15.0,
        "delta4_changed_psnr_genie": 1.0,
        "stability_frames": 300.0,
        "stability_flat": 0.0,
        "stability_frozen": 0.0,
        "stability_motion": 0.9,
        "survival_200": 0.9,
        "survival_real": 0.99,
        "exploit_gate": 1.0,
    }
    assert all(gates(good).values())
    for name, value in {
        "changed_psnr": 14.0,
        "delta4_changed_psnr_genie": -0.1,
        "stability_flat": 0.2,
        "stability_motion": 0.005,
        "survival_200": 0.5,
        "exploit_gate": 0.0,
    }.items():
        assert list(gates({**good, name: value}).values()).count(False) == 1, name
    unknown = {name: value for name, value in good.items() if "changed" not in name}
    assert list(gates(unknown).values()) == [False, False, True, True, True]
    short = {name: value for name, value in good.items() if name[0] != "s"}
    assert len(gates(short)) == 3, "there was no long dream"

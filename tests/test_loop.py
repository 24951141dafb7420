"""The loop, tiny but whole, on real CoinRun: killed in every stage it ends as if undisturbed."""

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from agents.explore_config import ExploreConfig
from agents.loop.command import LoopConfig, main, run_loop
from agents.loop.evaluate import WorldEvaluationConfig, evaluate_world
from agents.loop.graph import scores
from agents.loop.recipes import LOOPS, LoopRecipe, for_env
from benchmarks.studies import loop_gain
from genie_gym.build.stages import Manifest, Stage, run_stages
from tests.tiny_world import LEVELS, recipe
from world_models.episodes import EpisodeDataset
from world_models.worlds.bundle import load_world

REAL = "Procgen/CoinRun-v0"
AGENT = {
    "env": REAL, "steps": 64, "eval_every": 32, "num_envs": 2, "max_steps": 20, "eval_steps": 6,
    "rollout": 16, "batch_size": 32, "epochs": 1, "memory": 16,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny() -> LoopRecipe:
    runs = recipe()
    coder = replace(runs.tokenizer.model.transformer, dim=32)
    thinker = replace(runs.dynamics.model.transformer, dim=32, num_layers=1)
    fit = replace(runs.tokenizer.fit, steps=6, batch_size=2, warmup_steps=2, save_every=2)
    training = replace(
        runs,
        tokenizer=replace(
            runs.tokenizer,
            model=replace(runs.tokenizer.model, transformer=coder, num_codes=32),
            fit=fit,
            frames=4,
        ),
        dynamics=replace(
            runs.dynamics,
            model=replace(runs.dynamics.model, transformer=thinker),
            fit=fit,
            frames=4,
        ),
    )
    return LoopRecipe(
        env=REAL,
        name="CoinRun",
        training=training,
        explorer=ExploreConfig(world="CoinRun", **AGENT),
        test_agent=ExploreConfig(reward="own", **AGENT),
        evaluation=WorldEvaluationConfig(windows=4, steps=4),
        random_episodes=6,
        round_frames=450,  # more than 20 episodes have
        test_episodes=6,
        max_steps=20,
        decoder_steps=4,
        dynamics_steps=4,
        env_kwargs=LEVELS,
    )


def config(out: Path, **more) -> LoopConfig:
    return LoopConfig(recipe=tiny(), out=out, **more)


def result(out: Path) -> dict:
    """All that the loop made: scores, and weights of every world."""
    found = {"scores": scores(config(out).loop())}
    for card in sorted(out.rglob("world.json")):
        state = load_world(card.parent).model.state_dict()
        name = str(card.parent.relative_to(out))
        found[name] = {key: x.double().sum().item() for key, x in state.items()}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A loop that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert run_loop(config(out))
    return out


def test_the_loop_makes_and_evaluates_a_world_of_each_arm(whole):
    rows = scores(config(whole).loop())
    assert [row["world"] for row in rows] == ["first", "explored-1", "control-1"]
    assert all(row["psnr_ceiling"] > 5 and row["psnr_copy"] > 5 for row in rows)
    explored, control = (EpisodeDataset(whole / "data" / arm) for arm in ("explored", "control"))
    assert all(len(arm) == 40 and arm.num_frames.sum() >= 450 for arm in (explored, control))
    assert rows[1]["frames_learned"] == explored.num_frames.sum()
    assert {e.info.policy for e in control.entries} == {"random"}
    assert all("round-1/agent+0.15" in e.info.policy for e in explored.entries)
    tested = EpisodeDataset(whole / "data" / "test")
    assert all("test-agent+0.15" in e.info.policy for e in tested.entries)
    cards = [
        load_world(whole / path).card for path in ("worlds/CoinRun", "explored/round-1/CoinRun")
    ]
    assert cards[0].tokenizer == cards[1].tokenizer


@pytest.mark.timeout(1200)
def test_killed_in_every_stage_it_ends_with_the_same_result(whole, tmp_path):
    """A kill -9 somewhere in the middle of each stage, at the latest before it counts as done.

    The stages of the first world and of the control arm do the same work as those of the explored
    arm.
    """
    out = tmp_path / "cut"
    took = {e["stage"]: e["seconds"] for e in Manifest(whole / "stages.jsonl").entries()
            if e["event"] == "done"}  # fmt: skip
    stages = [s for s in config(out).loop().stages() if s.name.startswith("explored")]
    for number, stage in enumerate(stages):
        after = took[stage.name] * (0.2, 0.5, 0.8)[number % 3]
        # Not forked: what other tests left in this process, threads and locks, may hang a fork.
        child = get_context("spawn").Process(target=_die_in, args=(stage.name, out, after))
        child.start()
        child.join()
        log = out.with_suffix(".log").read_text()
        assert child.exitcode == -signal.SIGKILL, f"{stage.name} ended by itself:\n{log}"
        begun = [entry["stage"] for entry in Manifest(out / "stages.jsonl").entries()]
        assert begun[-1] == stage.name, f"killed in {begun[-1]}, not in {stage.name}"
    assert run_loop(config(out))
    assert result(out) == result(whole)


def _die_in(name: str, out: Path, after: float) -> None:
    """What the child does: runs the loop until it is killed."""

    torch.set_num_threads(1)  # as the undisturbed run

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    note = Manifest.note

    def watched(self: Manifest, stage: str, event: str, **more) -> None:
        if stage == name and event == "done":
            die()
        note(self, stage, event, **more)
        if stage == name:
            threading.Timer(after, die).start()

    Manifest.note = watched
    try:
        sink = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1), os.dup2(sink, 2)
        run_loop(config(out))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def test_each_stage_can_be_run_alone_and_rounds_can_be_added(whole, capfd):
    manifest = Manifest(whole / "stages.jsonl")
    before = result(whole)
    (whole / "scores" / "explored-1-evaluation.json").unlink()
    assert run_loop(config(whole, only="explored-1-evaluation"))
    assert result(whole) == before
    with pytest.raises(ValueError, match="explored-2-tokenizer needs explored-2-data"):
        run_loop(config(whole, only="explored-2-tokenizer", rounds=2))
    with pytest.raises(ValueError, match="Did you mean 'explored-1-agent'"):
        run_loop(config(whole, only="explored-1-agnt"))
    begun = len(manifest.entries())
    assert run_loop(config(whole)) and len(manifest.entries()) == begun
    with pytest.raises(ValueError, match="was started with seed 0, not 1.*another --out"):
        run_loop(config(whole, seed=1))


def test_loops_can_share_world_and_held_out_set(whole, tmp_path):
    shared = {"world": str(whole / "worlds" / "CoinRun"), "test_data": whole / "data" / "test"}
    other = config(tmp_path / "other", seed=1, **shared)
    names = [stage.name for stage in other.loop().stages()]
    assert names[0] == "evaluation" and names[1] == "explored-1-agent"
    assert run_loop(config(tmp_path / "other", seed=1, only="evaluation", **shared))
    assert scores(other.loop()) == scores(config(whole).loop())[:1]
    with pytest.raises(ValueError, match="is not a folder"):
        config(tmp_path / "other", test_data=tmp_path / "nowhere")


def test_the_gain_is_that_of_one_arm_over_the_other(whole, tmp_path):
    first, explored, control = scores(config(whole).loop())
    figures, rows = loop_gain.summary([loop_gain.evaluated(whole)] * 2)
    assert figures["gain_psnr"] == pytest.approx(explored["psnr"] - control["psnr"])
    assert figures["first_delta_psnr"] == pytest.approx(first["delta_psnr"])
    assert figures["gain_psnr_sd"] == 0
    assert figures["control_frames_learned"] == control["frames_learned"]
    assert [row["world"] for row in rows] == ["first", "explored", "control", "gain"]
    with pytest.raises(ValueError, match="run the loop to its end"):
        loop_gain.evaluated(tmp_path)


def test_the_manifest_survives_a_torn_line(tmp_path):
    manifest = Manifest(tmp_path / "stages.jsonl")
    manifest.note("first", "done")
    with (tmp_path / "stages.jsonl").open("a") as file:
        file.write('{"stage": "second", "ev')
    assert manifest.done() == {"first"}
    manifest.note("third", "done")
    assert manifest.done() == {"first", "third"}


def test_a_stage_that_was_asked_to_stop_is_not_done(tmp_path):
    manifest, asked = Manifest(tmp_path / "stages.jsonl"), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    stages = [Stage(name="a", needs=(), run=stop), Stage(name="b", needs=("a",), run=lambda: True)]
    assert not run_stages(stages, manifest)
    assert manifest.done() == set()
    assert run_stages(stages, manifest) and manifest.done() == {"a", "b"}


@pytest.mark.parametrize(
    ("raised", "event"), [(KeyboardInterrupt, "stopped"), (RuntimeError, "failed")]
)
def test_the_time_of_a_stage_that_raises_counts(tmp_path, raised, event):
    def stop() -> bool:
        time.sleep(0.2)
        raise raised

    manifest = Manifest(tmp_path / "stages.jsonl")
    with pytest.raises(RuntimeError) if event == "failed" else nullcontext():
        assert not run_stages([Stage(name="a", needs=(), run=stop)], manifest)
    last = manifest.entries()[-1]
    assert last["event"] == event and last["seconds"] >= 0.2 and not manifest.done()


def test_the_evaluation_knows_a_perfect_world_from_a_copy(whole):
    """The tokenizer's ceiling is what the pictures allow; copying scores what copying scores."""
    world, data = whole / "worlds" / "CoinRun", whole / "data" / "test"
    found = evaluate_world(world, data, WorldEvaluationConfig(windows=8))
    assert found["psnr"] < found["psnr_ceiling"] + 3
    assert found["psnr_copy"] != found["psnr"]
    assert found["changed_psnr_copy"] < found["psnr_copy"]


def test_every_game_has_a_recipe_and_the_command_lists_its_stages(tmp_path, capsys):
    envs = [make().env for make in LOOPS]
    assert {"RetroAct/SuperMarioBros-Nes-v0", "RetroAct/AdventureIslandII-Nes-v0",
            "RetroAct/Smurfs-Genesis-v0", REAL} <= set(envs)  # fmt: skip
    assert len(envs) == 6 and all(for_env(env).env == env for env in envs)
    assert for_env("RetroAct/Frostbite-Atari2600-v0").name == "Frostbite-Atari2600"
    smb = for_env("RetroAct/SuperMarioBros-Nes-v0")
    assert (smb.explorer.reward, smb.round_frames, smb.dynamics_steps) == (
        "paper",
        7_000_000,
        10_000,
    )
    assert main([REAL, "--list", "--out", str(tmp_path), "--round-frames", "7"]) == 0
    assert "to do   explored-1-agent" in capsys.readouterr().out
    assert main(["--help"]) == 0 and "Hero" in capsys.readouterr().out


def test_the_settings_are_kept_with_the_loop(whole):
    kept = json.loads((whole / "loop.json").read_text())
    assert kept["recipe"]["round_frames"] == 450 and kept["seed"] == 0

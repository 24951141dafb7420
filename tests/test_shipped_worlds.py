"""The worlds that come with the package: whole, small, quick to begin, and what their cards say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import genie_gym  # noqa: F401  registers the env ids
from genie_gym.worlds_commands import main
from world_models.worlds.bundle import load_world
from world_models.worlds.card import BundleError, WorldCard
from world_models.worlds.find import SHIPPED, VARIABLE, WorldNotFoundError

WORLDS = sorted(path.name for path in SHIPPED.iterdir())
ATARI = [name for name in WORLDS if "Atari2600" in WorldCard.read(SHIPPED / name).env_id]
MIB = 2**20


def test_coinrun_and_atari_games_are_among_them():
    assert {"CoinRun", "CrazyClimber", "Freeway", "Hero", "Pong"} <= set(WORLDS)


def test_they_are_small():
    sizes = [file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()]
    assert max(sizes) <= 16 * MIB and sum(sizes) <= 24 * MIB


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_whole_and_dreams_by_its_env_id(name, capsys):
    assert main(["verify", str(SHIPPED / name)]) == 0
    env = gym.make(f"GenieRedux/{name}-v0", world=str(SHIPPED / name))
    moved = []
    for seed in range(4):  # from some beginnings no button leads anywhere soon, as in the game
        first, _ = env.reset(seed=seed)
        for t in range(8):
            frame, reward, *_ = env.step(t % env.action_space.n)
            assert env.observation_space.contains(frame) and np.isfinite(reward)
            moved.append(not np.array_equal(first, frame))
        assert np.std(frame) > 0.5 * np.std(first)  # not faded
    env.close()
    assert any(moved)


@pytest.mark.parametrize("name", WORLDS)
def test_a_card_says_where_its_world_is_from_and_how_true_it_is(name):
    card = WorldCard.read(SHIPPED / name)
    assert card.env_id in gym.registry and card.provenance["data"]["episodes"] > 0
    for score in ("psnr", "psnr_copy", "psnr_ceiling", "delta4_psnr_genie"):
        assert np.isfinite(card.scores[score])
    assert card.scores["changed_psnr"] > card.scores["changed_psnr_copy"] + 1
    assert card.scores["delta4_psnr_genie"] > 1


@pytest.mark.parametrize("name", ATARI)
def test_a_game_keeps_its_sprites_obeys_and_knows_its_rewards(name):
    scores = WorldCard.read(SHIPPED / name).scores
    assert scores["changed_psnr_ceiling"] >= 24
    assert scores["changed_psnr"] >= scores["changed_psnr_copy"] + 4
    # Most pixels that change in Freeway are cars, which no action moves.
    assert scores["delta4_changed_psnr_genie"] >= (0.5 if name == "Freeway" else 1.5)
    assert min(scores["reward_precision"], scores["reward_recall"]) >= 0.5


def test_a_dream_begins_soon_after_python_does():
    code = (
        "import time; t = time.perf_counter(); import gymnasium as gym, genie_gym; "
        "env = gym.make('GenieRedux/CoinRun-v0'); env.reset(seed=0); env.step(1); "
        "print(time.perf_counter() - t)"
    )
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 20  # 5 s on an idle machine; tests share theirs


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _swap_names(path: Path) -> None:
    tensors = load_file(path)
    first, second = sorted(tensors)[:2]
    tensors[first], tensors[second] = tensors[second], tensors[first]
    save_file(tensors, path)


@pytest.mark.parametrize("damage", [_delete, _truncate, _swap_names])
@pytest.mark.parametrize("part", ["tokenizer", "dynamics"])
def test_a_damaged_world_is_refused_and_its_file_named(damage, part, tmp_path, capsys):
    world = tmp_path / "CoinRun"
    shutil.copytree(SHIPPED / "CoinRun", world)
    damage(world / f"{part}.safetensors")
    with pytest.raises(BundleError, match=f"{part}.safetensors"):
        load_world(world)
    assert main(["verify", str(world)]) == 1
    assert f"{part}.safetensors" in capsys.readouterr().err


def test_a_game_without_a_world_says_what_to_run():
    with pytest.raises(WorldNotFoundError, match="genie-gym build RetroAct/SuperMarioBros-Nes"):
        gym.make("GenieRedux/SuperMarioBros-v0")


@torch.no_grad()
def test_the_beginning_of_a_dream_is_the_real_frame_to_the_bit():
    world = load_world(SHIPPED / "CoinRun")
    state = world.model.start(world.starts.frames[:2, :1], world.starts.actions[:2, :0])
    assert torch.equal(state.frames, world.starts.frames[:2, 0])

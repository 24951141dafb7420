"""`genie-gym explore`: trained on a real game with a real world, stopped and resumed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agents.explore import ExploreConfig, explore
from agents.rewards import RewardedEnv
from genie_gym.cli import main
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset

REAL = "Procgen/CoinRun-v0"


@pytest.fixture(autouse=True, scope="module")
def world(coinrun_world):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield coinrun_world
    torch.set_num_threads(before)


def config(out: Path, **changes) -> ExploreConfig:
    base = ExploreConfig(
        env=REAL, out=out, world="CoinRun", steps=192, eval_every=64, num_envs=4, max_steps=20,
        eval_steps=12, rollout=16, batch_size=32, epochs=1, memory=32,
    )  # fmt: skip
    return replace(base, **changes)


def weights(out: Path) -> dict[str, list]:
    (newest,) = (out / "checkpoints").iterdir()
    found = {}
    for file in newest.glob("*.safetensors"):
        found |= {f"{file.stem}/{name}": x.tolist() for name, x in load_file(file).items()}
    return found


class Killed(Exception):
    """Ends a run as a kill would: no cleanup runs."""


@pytest.mark.parametrize("reward", ["streaming", "novelty"])
def test_a_killed_run_resumes_to_the_same_result(tmp_path, reward):
    whole = explore(config(tmp_path / "whole", reward=reward))

    def kill(_):
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            explore(config(tmp_path / "cut", reward=reward), on_evaluation=kill)
    assert explore(config(tmp_path / "cut", reward=reward)) == whole
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    longer = explore(config(tmp_path / "cut", reward=reward, steps=256))
    assert longer[:3] == whole and len(longer) == 4


def test_killed_in_the_middle_of_an_iteration(tmp_path, monkeypatch):
    whole = explore(config(tmp_path / "whole", steps=128))
    from agents.rewards import DynamicsEntropyVector

    step, calls = DynamicsEntropyVector.step, []

    def dying(self, actions):
        calls.append(1)
        if len(calls) == 40:  # in the second iteration
            raise Killed
        return step(self, actions)

    monkeypatch.setattr(DynamicsEntropyVector, "step", dying)
    with pytest.raises(Killed):
        explore(config(tmp_path / "cut", steps=128))
    assert explore(config(tmp_path / "cut", steps=128)) == whole
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_the_command_leaves_a_policy_that_collects(tmp_path, capfd):
    out = tmp_path / "run"
    arguments = (
        f"--world CoinRun --out {out} --steps 128 --eval-every 64 --num-envs 4 --rollout 16 "
        "--batch-size 32 --eval-steps 10 --memory 32"
    )
    assert main(["explore", REAL, *arguments.split()]) == 0
    shown = capfd.readouterr()
    assert "128/128" in shown.err and f"--policy {out}" in shown.out
    assert "use_backgrounds false" in shown.out
    assert len(list((out / "animations").glob("*.gif"))) == 2
    assert list((out / "tensorboard").glob("events*"))
    card = json.loads((out / "policy.json").read_text())
    assert card["memory"] == 32 and card["training"]["places"] > 0
    collect(
        CollectConfig(
            env=REAL, out=tmp_path / "data", policy=str(out), episodes=3, max_steps=25,
            num_envs=3, epsilon=0.15, temperature=0.5,
            env_kwargs={"use_backgrounds": "false"},
        )
    )  # fmt: skip
    assert len(EpisodeDataset(tmp_path / "data")) == 3
    assert main(["explore", REAL, *arguments.split(), "--gamma", "0.9"]) == 1
    assert "gamma 0.995, not 0.9" in capfd.readouterr().err


def test_the_best_policy_is_kept(tmp_path):
    history = explore(config(tmp_path, steps=256))
    card = json.loads((tmp_path / "policy.json").read_text())
    assert card["training"]["trained_return"] == max(e["trained_return"] for e in history)


def test_evaluations_teach_novelty_nothing_and_its_last_policy_is_kept(tmp_path):
    history = explore(config(tmp_path / "short", reward="novelty"))
    longer = config(tmp_path / "long", reward="novelty", eval_steps=24)
    assert len(explore(longer)) == len(history) == 3
    ours, theirs = weights(tmp_path / "short"), weights(tmp_path / "long")
    assert ours == theirs  # and the agent, which was trained on its scores
    first = max(history, key=lambda e: e["trained_return"])
    card = json.loads((tmp_path / "short" / "policy.json").read_text())
    assert card["training"]["trained_return"] == history[-1]["trained_return"]
    assert first is not history[-1], "the returns fall, so this would not be the best policy"


def test_the_env_is_the_one_the_world_was_made_with(world):
    explored = RewardedEnv(env=REAL, world="CoinRun", env_kwargs={"start_level": 3})
    kwargs = explored.all_env_kwargs()
    assert kwargs["use_backgrounds"] is False and kwargs["num_levels"] == 2
    assert kwargs["start_level"] == 3 and kwargs["action_set"] == "coinrun-7"


def test_the_rewards_are_what_their_names_say():
    totals = {}
    for reward in ("paper", "streaming", "surprise", "novelty", "own"):
        explored = RewardedEnv(env=REAL, world="CoinRun", reward=reward, scale=1.0, num_envs=4)
        env = explored.make()
        env.seed(0)
        env.reset()
        totals[reward] = np.sum([env.step(np.full(4, 1))[1] for _ in range(8)], 0)
        env.close()
    assert (totals["own"] == 0).all()  # no coin so soon
    assert all((totals[reward] > 0).all() for reward in ("paper", "streaming", "surprise"))
    assert len({tuple(total.round(3)) for total in totals.values()}) == 5
    with pytest.raises(ValueError, match="--world"):
        RewardedEnv(env=REAL)
    with pytest.raises(ValueError, match="streaming"):
        RewardedEnv(env=REAL, world="CoinRun", reward="fast")


def test_a_retro_game_is_explored_for_novelty(tmp_path):
    retro = config(
        tmp_path, env="RetroAct/Kangaroo-Atari2600-v0", world=None, reward="novelty", num_envs=2,
        steps=64, eval_every=64,
    )  # fmt: skip
    (result,) = explore(retro)
    assert result["places"] >= 1 and result["trained_return"] > 0
    card = json.loads((tmp_path / "policy.json").read_text())
    assert card["action_set"] == "retroact-5"

"""`genie-gym dream-train`: agents trained in a real world's dream, judged in the real game."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import load_file

from agents.dream_config import DreamTrainConfig, recipe_of
from agents.dream_train import dream_train
from agents.experts import pong
from agents.returns import play_out
from agents.saved_policy import load_card, load_policy
from genie_gym.actions import action_set
from genie_gym.cli import main
from genie_gym.collect.collector import Collection, play_episodes
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.collect.policy_spec import MIXED, checked_spec, make_policy
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.wrappers import StackFramesVector
from tests.bare_procgen import needs_procgen
from tests.counting_env import CountingVectorEnv
from world_models.episodes import Episode, EpisodeDataset

GAME = "RetroAct/CrazyClimber-Atari2600-v0"
SMALL = {
    "steps": 128, "eval_every": 64, "num_envs": 4, "rollout": 16, "batch_size": 32, "epochs": 1,
    "horizon": 12, "eval_episodes": 2, "eval_steps": 10, "max_overpay": 0.0,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def starts(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("starts")
    collect(CollectConfig(env=GAME, out=out, policy="mixed", episodes=2, max_steps=60))
    return out


def config(out: Path, **changes) -> DreamTrainConfig:
    return replace(recipe_of("CrazyClimber"), out=out, **{**SMALL, **changes})


def weights(out: Path) -> dict[str, torch.Tensor]:
    (newest,) = (out / "checkpoints").iterdir()
    return load_file(newest / "policy.safetensors")


def episodes(data: Path) -> list[Episode]:
    dataset = EpisodeDataset(data)
    return [dataset.episode(index) for index in range(len(dataset))]


class Killed(Exception):
    """Ends a run as a kill would."""


def test_a_killed_run_resumes_to_the_same_result(tmp_path, starts, monkeypatch):
    whole = dream_train(config(tmp_path / "whole", starts=starts))
    assert [result["steps"] for result in whole] == [64, 128]
    assert whole[-1]["real_frames"] == 40  # only the evaluations play the real game
    step, calls = GenieVectorEnv.step, []

    def dying(self, actions):
        calls.append(1)
        if len(calls) == 50:
            raise Killed
        return step(self, actions)

    monkeypatch.setattr(GenieVectorEnv, "step", dying)
    with pytest.raises(Killed):
        dream_train(config(tmp_path / "cut", starts=starts))
    monkeypatch.undo()
    assert dream_train(config(tmp_path / "cut", starts=starts)) == whole
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_in_the_real_game_counts_its_frames(tmp_path):
    history = dream_train(config(tmp_path, where="real", memory=32, features="small"))
    assert history[-1]["real_frames"] == 128 + 40
    card = load_card(tmp_path)
    assert (card.stack, card.memory, card.features) == (2, 32, "small")


def test_the_policy_plays_as_it_was_trained(tmp_path, starts):
    dream_train(config(tmp_path, starts=starts, stack=3))
    env = StackFramesVector(GenieVectorEnv("CrazyClimber", 2, autoreset_mode="Disabled"), 3)
    options = {"frames": EpisodeDataset(starts).episode(0).frames[:1]}
    seen, _ = env.reset(seed=0, options=options)
    actions = action_set("retroact-5")
    played = load_policy(tmp_path, actions=actions, env_kwargs={}, num_envs=2, temperature=0.0)
    trained = load_policy(tmp_path, actions=actions, env_kwargs={}, num_envs=2, temperature=0.0)
    for _ in range(5):
        chosen = played.act(seen[..., -3:])
        logits = trained._logits(torch.from_numpy(seen).permute(0, 3, 1, 2))
        assert (chosen == logits.argmax(1).numpy()).all()
        seen, *_ = env.step(chosen)


def test_a_training_ends_when_its_minutes_are_over(starts, tmp_path):
    given = config(tmp_path, starts=starts, steps=1_000_000, eval_every=1_000_000, minutes=3 / 60)
    (result,) = dream_train(given)
    assert 0 < result["steps"] < 10_000
    assert dream_train(given) == [result], "nothing is left to do"


def test_it_stops_when_the_dream_pays_too_much(tmp_path, monkeypatch, capsys):
    pay = GenieVectorEnv._step_rows

    def generous(self, rows, actions):
        outcome = pay(self, rows, actions)
        return replace(outcome, rewards=outcome.rewards + 1000)

    monkeypatch.setattr(GenieVectorEnv, "_step_rows", generous)
    history = dream_train(config(tmp_path, steps=64 * 5, max_overpay=1.5))
    assert len(history) == 2 and history[-1]["stop"] == 1  # twice in a row
    assert dream_train(config(tmp_path, steps=64 * 5, max_overpay=1.5)) == history
    settings = {**SMALL, "steps": 64 * 5, "max_overpay": 1.5, "out": tmp_path}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert main(["dream-train", "CrazyClimber", *given]) == 0
    assert "--max-overpay 0 never stops" in capsys.readouterr().out


def test_rounds_improve_a_world_on_the_agents_play(tmp_path, capfd):
    arguments = [
        "dream-train", "CrazyClimber", "--out", str(tmp_path), "--rounds", "1",
        "--round-frames", "1000", "--round-steps", "2",
    ]  # fmt: skip
    for name, value in {**SMALL, "steps": 64}.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    assert main(arguments) == 0
    shown = capfd.readouterr().out
    assert "agent 2: return" in shown and "real frames collected" in shown
    data = EpisodeDataset(tmp_path / "data")
    agent = str(tmp_path / "round-1" / "agent")
    assert any(agent in entry.info.policy for entry in data.entries)
    seeds = {entry.info.extra["collection"]["seed"] for entry in data.entries}
    assert seeds == {4_000_000, 4_000_001}, "not those that worlds are scored on"
    after = tmp_path / "round-1" / "CrazyClimber"
    assert load_card(tmp_path / "round-2" / "agent").training["world"] == str(after)
    assert json.loads((after / "world.json").read_text())["sampling"]["temperature"] == 0.5
    assert main(arguments) == 0  # everything is done
    assert "==" not in capfd.readouterr().out


def test_rounds_take_no_starts_because_they_collect_their_own(tmp_path):
    with pytest.raises(ValueError, match="omit --starts data"):
        config(tmp_path, rounds=1, starts=Path("data"))


def test_dreams_start_from_a_dataset_and_end_when_unsure(starts):
    frames = EpisodeDataset(starts).episode(0).frames
    options = {"starts": starts, "autoreset_mode": "SameStep"}
    env = GenieVectorEnv("CrazyClimber", 4, **options)
    first, _ = env.reset(seed=0)
    known = np.concatenate([episode.frames for episode in episodes(starts)])
    assert all((known == frame).all((1, 2, 3)).any() for frame in first)
    assert env.prompts[0].shape == (4, *frames.shape[1:])
    sure = GenieVectorEnv("CrazyClimber", 4, truncate_when_unsure=2.0, **options)
    unsure = GenieVectorEnv("CrazyClimber", 4, truncate_when_unsure=0.0, **options)
    for each in (sure, unsure):
        each.reset(seed=0)
    assert not sure.step([0] * 4)[3].any()
    frames, _, _, truncated, infos = unsure.step([0] * 4)
    assert truncated.all() and (infos["final_info"]["entropy"] > 0).all()
    assert all((known == frame).all((1, 2, 3)).any() for frame in frames)  # the next real starts


def test_uncertainty_costs_reward():
    plain, penalised = (
        GenieVectorEnv("CrazyClimber", 2, uncertainty_penalty=penalty) for penalty in (0.0, 3.0)
    )
    for env in (plain, penalised):
        env.reset(seed=0)
    for _ in range(5):
        _, reward, _, _, infos = plain.step([2, 3])
        assert np.allclose(penalised.step([2, 3])[1], reward - 3 * infos["entropy"], atol=1e-4)


def test_starts_of_another_game_are_refused(tmp_path):
    collect(CollectConfig(env="Procgen/CoinRun-v0", out=tmp_path, episodes=1, max_steps=5))
    with pytest.raises(ValueError, match="dataset of the world model's own game"):
        GenieVectorEnv("CrazyClimber", starts=tmp_path)


def test_starts_of_a_game_with_the_same_actions_are_refused(starts):
    with pytest.raises(ValueError, match="Freeway-Atari2600-v0, but .* of RetroAct/CrazyClimber"):
        GenieVectorEnv("Freeway", starts=starts)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_stacks_never_mix_episodes(mode):
    env = StackFramesVector(CountingVectorEnv(2, max_episode_steps=3, autoreset_mode=mode), 2)
    seen, _ = env.reset(seed=0)
    assert (seen[..., :3] == seen[..., 3:]).all()
    for _ in range(10):
        before = seen
        seen, _, terminated, truncated, infos = env.step([0, 0])
        last = np.stack(list(infos["final_obs"])) if "final_obs" in infos else seen
        continues = (last[..., :3] == before[..., 3:]).all((1, 2, 3))
        begins = (last[..., :3] == last[..., 3:]).all((1, 2, 3))
        assert (continues | begins).all()
        if mode == "SameStep" and (terminated | truncated).all():
            assert continues.all() and (seen[..., :3] == seen[..., 3:]).all()


def test_a_masked_reset_begins_the_stacks_of_its_rows_alone():
    """Also in Gymnasium's vector envs, which take the mask out of the options."""
    mode = {"autoreset_mode": AutoresetMode.DISABLED}
    env = StackFramesVector(
        gym.make_vec("tests.picture_env:PictureGame-v0", 2, "sync", vector_kwargs=mode), 2
    )
    env.reset(seed=0)
    before = env.step(np.array([2, 2]))[0]
    mask = np.array([True, False])
    after, _ = env.reset(seed=[5, 6], options={"reset_mask": mask})
    assert (after[0, ..., :3] == after[0, ..., 3:]).all()
    assert (after[1] == before[1]).all() and (after[1, ..., :3] != after[1, ..., 3:]).any()


def test_wrong_numbers_are_refused(tmp_path):
    for wrong in ({"minutes": 0.0}, {"epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DreamTrainConfig(world="Pong", out=tmp_path, **wrong)


def test_mixed_play_has_its_shares():
    actions = action_set("retroact-5")
    policy = make_policy("sticky=1,random=3", actions, num_envs=1, max_steps=4)
    chosen = []
    for number in range(2_000):
        policy.begin(0, np.random.default_rng(number))
        chosen.append(int(policy._chosen[0]))
    assert abs(np.mean(chosen) - 0.75) < 0.03
    assert checked_spec("mixed") == MIXED
    for bad in ("sticky=0", "sticky=x", "=1", "mixed=2", "nothing"):
        with pytest.raises(ValueError, match="share|policy must be"):
            checked_spec(bad)
    with pytest.raises(ValueError, match="cannot import"):
        make_policy("agents.experts:tennis", actions, num_envs=1, max_steps=4)


def test_the_expert_follows_the_ball():
    actions = action_set("retroact-5")
    frame = np.zeros((2, 64, 64, 3), np.uint8) + np.array([144, 72, 17], np.uint8)
    frame[:, 30:33, 50] = (92, 186, 92)
    frame[0, 20, 30] = frame[1, 45, 30] = 236
    player = pong(actions, 2)
    assert [actions.meanings[a] for a in player.act(frame)] == ["UP", "DOWN"]
    env = gym.make_vec("RetroAct/Pong-Atari2600-v0", num_envs=1, autoreset_mode="Disabled")
    random = make_policy("random", actions, num_envs=1, max_steps=500)
    played = []
    for policy in (pong(actions, 1), random):
        first, _ = env.reset(seed=0)
        played.append(play_out(env, first, policy, seeds=[0], max_steps=400).returns[0])
    env.close()
    assert played[0] > played[1] + 2


@needs_procgen
def test_the_runner_of_coinrun_gets_to_coins_and_plays_the_same_in_any_row():
    def played(policy, num_envs):
        collection = Collection(env_id="Procgen/CoinRun-v0", max_steps=200, policy=policy)
        episodes = play_episodes(collection, list(range(24)), num_envs=num_envs)
        return {episode.info.index: episode for episode in episodes}

    runner, other = played("agents.experts:coinrun", 24), played("agents.experts:coinrun", 5)
    for index, episode in runner.items():
        assert np.array_equal(episode.actions, other[index].actions)
    coins = [
        sum(episode.rewards.sum() > 0 for episode in episodes.values())
        for episodes in (runner, played("random", 24))
    ]
    assert coins[0] > coins[1] + 5


def test_the_walker_of_freeway_crosses_the_road_and_plays_the_same_in_any_row():
    def played(num_envs):
        env_id = "RetroAct/Freeway-Atari2600-v0"
        collection = Collection(env_id=env_id, max_steps=300, policy="agents.experts:freeway")
        episodes = play_episodes(collection, list(range(4)), num_envs=num_envs)
        return {episode.info.index: episode for episode in episodes}

    walker, other = played(2), played(1)
    for index, episode in walker.items():
        assert np.array_equal(episode.actions, other[index].actions)
    assert sum(episode.rewards.sum() for episode in walker.values()) >= 2
    up = [
        (episode.actions == episode.info.action_meanings.index("UP")).mean()
        for episode in walker.values()
    ]
    assert np.ptp(up) > 0.1, "each episode has a probability of its own"

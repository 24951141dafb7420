"""Saved policies: what is loaded acts like what was trained, and misuse is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agents.saved_policy import (
    PolicyCard,
    SavedPolicy,
    build_policy,
    load_policy,
    save_policy,
)
from agents.train import RECIPES, AgentConfig, coinrun_quick, train_agent
from agents.train import main as train_main
from benchmarks.dreams import heldout
from genie_gym.actions import action_set
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset
from world_models.worlds.card import WorldCard

ACTIONS = action_set("coinrun-7")
FRAMES = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)


def saved(folder, features="nature", seed=0, **kwargs):
    torch.manual_seed(seed)
    card = PolicyCard(
        env_id="Procgen/CoinRun-v0",
        action_set=ACTIONS.name,
        action_meanings=ACTIONS.meanings,
        frame_shape=(64, 64, 3),
        features=features,
        **kwargs,
    )
    network = build_policy(card)
    with torch.no_grad():
        network.action_net.weight.mul_(100)
        for buffer in network.buffers():
            buffer.add_(1)  # as after training
    save_policy(folder, card, network)
    return network


def load(folder, num_envs=5, **kwargs):
    given = {"actions": ACTIONS, "env_kwargs": {}, **kwargs}
    return load_policy(folder, num_envs=num_envs, **given)


@pytest.mark.parametrize("features", ["nature", "normalized", "impala"])
def test_a_loaded_policy_acts_like_the_saved_one(tmp_path, features):
    network = saved(tmp_path, features)
    observations = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
    expected, _ = network.predict(observations.numpy(), deterministic=True)
    assert np.array_equal(load(tmp_path, temperature=0).act(FRAMES), expected)


def test_it_computes_on_the_device_of_its_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)  # reads values
    policy = SavedPolicy(saved(tmp_path, "small").to("meta"), num_envs=5, temperature=1.0)
    assert policy._logits(torch.from_numpy(FRAMES).permute(0, 3, 1, 2)).is_meta
    recurrent = saved(tmp_path, "small", memory=16).to("meta")
    policy = SavedPolicy(recurrent, num_envs=5, temperature=1.0)
    assert all(part.is_meta for part in (*policy._memory, policy._no_starts))


def test_actions_are_drawn_from_the_softmax_at_the_temperature(tmp_path):
    network = saved(tmp_path)
    frames = np.repeat(FRAMES[:1], 200, 0)
    with torch.no_grad():
        observation = torch.from_numpy(FRAMES[:1]).permute(0, 3, 1, 2)
        logits = network.get_distribution(observation).distribution.logits[0]
    for temperature in (1.0, 3.0):
        policy = load(tmp_path, num_envs=200, temperature=temperature)
        for row in range(200):
            policy.begin(row, np.random.default_rng(row))
        drawn = np.concatenate([policy.act(frames) for _ in range(30)])
        expected = (logits / temperature).softmax(0).numpy()
        assert np.abs(np.bincount(drawn, minlength=7) / 6000 - expected).max() < 0.03


def test_an_agent_that_was_trained_on_plays_held_out_episodes_anew(tmp_path, monkeypatch):
    card = WorldCard(
        name="Toy",
        action_set=ACTIONS.name,
        action_meanings=ACTIONS.meanings,
        env_id="Procgen/CoinRun-v0",
        tokenizer={"frame_size": 64},
    )
    monkeypatch.chdir(tmp_path)

    def played(policy):
        given = {"episodes": 1, "max_steps": 8, "seed": 5, "cache": tmp_path / "cache"}
        (episode,) = heldout.collected(card, policy=policy, **given).entries
        return episode.key

    saved(tmp_path / "agent")
    first = played("agent")
    assert played(str(tmp_path / "agent")) == first == played("agent")
    saved(tmp_path / "agent", seed=1)
    again = played("agent=2,sticky=1")
    assert again != first != played("agent")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_misuse_is_told(tmp_path):
    saved(tmp_path / "good", observes={"velocity_map": True})
    with pytest.raises(ValueError, match="--env-kwargs velocity_map true"):
        load(tmp_path / "good")
    with pytest.raises(ValueError, match="action_set='coinrun-7'"):
        load(tmp_path / "good", actions=action_set("retroact-5"))
    with pytest.raises(ValueError, match="has no policy.json"):
        load(tmp_path)
    weights = tmp_path / "good" / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot load"):
        load(tmp_path / "good", env_kwargs={"velocity_map": True})
    card = json.loads((tmp_path / "good" / "policy.json").read_text())
    (tmp_path / "good" / "policy.json").write_text(json.dumps({**card, "format": 9}))
    with pytest.raises(ValueError, match="format 9"):
        load(tmp_path / "good")


def quick(out, **changes):
    config = AgentConfig(
        out=out, steps=512, eval_every=256, num_envs=8, rollout=32, batch_size=128, epochs=1,
        features="nature", env_kwargs=coinrun_quick().env_kwargs,
    )  # fmt: skip
    return replace(config, **changes)


def test_an_interrupted_training_resumes_to_the_same_agent(tmp_path):
    for out, steps in (("whole", 512), ("cut", 256), ("cut", 512)):
        train_agent(quick(tmp_path / out, steps=steps))
    ours, theirs = (load_file(tmp_path / name / "policy.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ValueError, match=r"gamma 0\.999, not 0\.9"):
        train_agent(quick(tmp_path / "cut", gamma=0.9))


def test_the_command_says_how_to_collect_with_the_agent(tmp_path, capsys, monkeypatch):
    small = "--steps 128 --eval-every 128 --num-envs 4 --rollout 32 --batch-size 64 --epochs 1"
    for looks in ({"velocity_map": True}, {}):
        out = tmp_path / str(len(looks))
        monkeypatch.setitem(RECIPES, "coinrun-quick", lambda x=looks, o=out: quick(o, env_kwargs=x))
        assert train_main(["coinrun-quick", *small.split()]) == 0
        assert ("--env-kwargs velocity_map true" in capsys.readouterr().out) == bool(looks)


def test_an_agent_is_trained_saved_and_collects(tmp_path):
    """The whole way on the real game, with a budget too small to learn much."""
    train_agent(quick(tmp_path / "agent"))
    collect(
        CollectConfig(
            env="Procgen/CoinRun-v0", out=tmp_path / "data", policy=str(tmp_path / "agent"),
            episodes=3, max_steps=40, num_envs=3, epsilon=0.1,
            env_kwargs={"velocity_map": "true"},
        )
    )  # fmt: skip
    dataset = EpisodeDataset(tmp_path / "data")
    assert len(dataset) == 3
    assert len(np.unique(np.concatenate([dataset.episode(i).actions for i in range(3)]))) > 2

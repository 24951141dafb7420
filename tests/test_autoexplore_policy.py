"""The AutoExplore network: its shape, its memory, and how it plays once saved."""

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates

import agents
from agents.autoexplore import AutoExplorePolicy, run_lstm
from agents.saved_policy import PolicyCard, build_policy, load_policy, save_policy
from agents.sb3 import make_sb3_env
from genie_gym.actions import action_set
from genie_gym.collect.collector import Collection, play_episodes
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset

ACTIONS = action_set("coinrun-7")
_BLOCKS = np.random.default_rng(0).integers(256, size=(9, 3, 2, 2, 3), dtype=np.uint8)
FRAMES = _BLOCKS.repeat(32, 2).repeat(32, 3)  # 9 steps of 3 rows


def network(memory: int = 512) -> AutoExplorePolicy:
    torch.manual_seed(0)
    policy = build_policy(card(memory))
    with torch.no_grad():
        policy.action_net.weight.mul_(3000)  # fresh actors hardly prefer any action
    return policy


def card(memory: int = 512) -> PolicyCard:
    return PolicyCard(
        env_id="Procgen/CoinRun-v0",
        action_set=ACTIONS.name,
        action_meanings=ACTIONS.meanings,
        frame_shape=(64, 64, 3),
        features="small",
        memory=memory,
    )


def saved(folder, memory: int = 64):
    policy = network(memory)
    save_policy(folder, card(memory), policy)
    return policy


def test_the_network_is_the_published_one():
    policy = network()
    sizes = [tuple(p.shape) for p in policy.features_extractor.parameters() if p.ndim == 4]
    assert sizes == [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    lstm = policy.lstm_actor
    assert (lstm.input_size, lstm.hidden_size, policy.lstm_critic) == (1024, 512, None)
    assert policy.action_net.in_features == policy.value_net.in_features == 512
    distinct = {id(p): p.numel() for p in policy.parameters()}
    assert sum(distinct.values()) == pytest.approx(3.2e6, rel=0.02)


def test_pixels_come_in_between_minus_one_and_one():
    policy, seen = network(), []
    policy.features_extractor.body.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    policy.extract_features(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 64, 64)
    )
    assert seen[0].amin() == -1 and seen[0].amax() == 1


def test_the_critic_trains_the_convolutions_too():
    policy = network()
    states = (torch.zeros(1, 2, 512), torch.zeros(1, 2, 512))
    frames = torch.from_numpy(FRAMES[0, :2]).permute(0, 3, 1, 2)
    values, _, _ = policy.evaluate_actions(
        frames, torch.zeros(2), RNNStates(states, states), torch.zeros(2)
    )
    values.sum().backward()
    first = next(policy.features_extractor.parameters())
    assert first.grad.abs().sum() > 0


def test_recurrent_ppo_knows_it_by_name_and_trains_it_on_real_coinrun():
    assert agents.AutoExplorePolicy is RecurrentPPO.policy_aliases["AutoExplorePolicy"]
    env = make_sb3_env("Procgen/CoinRun-v0", 2, num_levels=2, distribution_mode="easy")
    model = RecurrentPPO(
        "AutoExplorePolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu"
    )
    assert isinstance(model.policy, AutoExplorePolicy)
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    model.learn(32)
    env.close()
    unmoved = [n for n, p in model.policy.named_parameters() if torch.equal(p, before[n])]
    assert unmoved == []


def test_played_step_by_step_it_equals_the_pass_over_the_sequence_it_is_trained_with(tmp_path):
    policy = saved(tmp_path)
    player = load_policy(tmp_path, actions=ACTIONS, env_kwargs={}, num_envs=3, temperature=0)
    for row in range(3):
        player.begin(row, np.random.default_rng(row))
    played = np.stack([player.act(frames) for frames in FRAMES])
    assert len(np.unique(played)) > 2
    sequence = torch.from_numpy(FRAMES).permute(1, 0, 4, 2, 3).flatten(0, 1)  # row by row
    states = (torch.zeros(1, 3, 64), torch.zeros(1, 3, 64))
    with torch.no_grad():
        distribution, _ = policy.get_distribution(sequence, states, torch.zeros(27))
    expected = distribution.distribution.logits.argmax(1).view(3, 9).T
    assert np.array_equal(played, expected.numpy())


def test_episodes_that_begin_within_sequences_are_told_apart_in_one_call():
    """The same as the step-by-step pass of sb3-contrib, which resets at each beginning."""
    policy = network(memory=24)
    torch.manual_seed(1)
    features = torch.randn(5 * 11, 1024)
    states = (torch.randn(1, 5, 24), torch.randn(1, 5, 24))
    starts = (torch.rand(5, 11) < 0.2).float()
    starts[0], starts[1, 0], starts[2, 1:] = 0, 1, 0
    expected, _ = policy._process_sequence(features, states, starts.flatten(), policy.lstm_actor)
    found = run_lstm(policy.lstm_actor, features, states, starts.flatten())
    assert torch.allclose(found, expected, atol=1e-5)
    assert starts.sum() > 5


def test_a_row_that_begins_forgets_and_the_others_do_not(tmp_path):
    saved(tmp_path)

    def logits(begin_again: int | None) -> np.ndarray:
        player = load_policy(tmp_path, actions=ACTIONS, env_kwargs={}, num_envs=3)
        for step, frames in enumerate(FRAMES):
            if step == 5 and begin_again is not None:
                player.begin(begin_again, np.random.default_rng(0))
            player.act(frames)
        return player._memory[0][0].numpy()

    whole, restarted = logits(None), logits(1)
    assert np.array_equal(whole[[0, 2]], restarted[[0, 2]])
    assert not np.allclose(whole[1], restarted[1], atol=1e-3)


def test_it_collects_and_its_episodes_do_not_depend_on_their_neighbours(tmp_path):
    saved(tmp_path / "agent")
    env_kwargs = {"num_levels": 3, "distribution_mode": "easy"}
    collection = Collection(
        env_id="Procgen/CoinRun-v0", policy=str(tmp_path / "agent"), max_steps=30, epsilon=0.15,
        temperature=0.5, env_kwargs=env_kwargs,
    )  # fmt: skip
    together = {e.info.index: e for e in play_episodes(collection, list(range(5)), num_envs=3)}
    for index in (1, 4):
        (alone,) = play_episodes(collection, [index], num_envs=1)
        assert np.array_equal(alone.actions, together[index].actions)
        assert np.array_equal(alone.frames, together[index].frames)
    collect(
        CollectConfig(
            env="Procgen/CoinRun-v0", out=tmp_path / "data", policy=str(tmp_path / "agent"),
            episodes=4, max_steps=30, num_envs=4, epsilon=0.15, temperature=0.5,
        )
    )  # fmt: skip
    assert len(EpisodeDataset(tmp_path / "data")) == 4

"""Tokens of a dataset: computed once, cut into windows, corrupted on the way."""

import itertools
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.square_runs import TINY, motion
from world_models import presets
from world_models.episodes import EpisodeDataset, sequential_windows
from world_models.parts import build_tokenizer
from world_models.training.corruption import RandomTokens, SelfForcing
from world_models.training.fit import launch
from world_models.training.run_folder import load_run
from world_models.training.token_cache import compute, token_encoding
from world_models.training.token_loader import CachedWindows, TokenLoader
from world_models.worlds.bundle import load_world

pytestmark = pytest.mark.usefixtures("one_thread")


def test_cached_tokens_are_those_a_dream_sees(made):
    world, data = load_world(made.world).model, EpisodeDataset(made.data)
    fabric = launch()
    encoding = token_encoding(world.tokenizer, 8, 4)
    windows = CachedWindows(data, 8, encoding, None, fabric)
    batch = windows.batch(np.array([[0, 0], [3, 1], [7, 4]]))
    assert batch["start"].tolist() == [0, 4, 16]
    for k in (1, 2, 5):
        for row in range(3):
            start = int(batch["start"][row])
            real = data.window(int(batch["episode"][row]), start, k)
            state = world.start(
                torch.from_numpy(real["frames"])[None], torch.from_numpy(real["actions"])[None]
            )
            assert torch.equal(state.tokens[0], batch["tokens"][row, k - 1])


def test_a_tokenizer_without_time_is_cached_by_frame_and_windows_begin_anywhere(made):
    config = replace(
        TINY.tokenizer, transformer=replace(TINY.tokenizer.transformer, temporal=False)
    )
    tokenizer = build_tokenizer(config).eval()
    data = EpisodeDataset(made.data)
    windows = CachedWindows(data, 8, token_encoding(tokenizer, 8, 4), None, launch())
    assert windows.num_starts.tolist() == [25 - 8 + 1] * 24
    batch = windows.batch(np.array([[2, 5]]))
    frames = torch.from_numpy(data.frames(2, 5, 13))[None]
    assert torch.equal(batch["tokens"], tokenizer.encode(frames))


def test_motion_tokens_are_followed_from_the_first_frame_and_windows_begin_anywhere(made):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(motion().tokenizer).eval()
    data = EpisodeDataset(made.data)
    windows = CachedWindows(data, 8, token_encoding(tokenizer, 8, 4), None, launch())
    batch = windows.batch(np.array([[2, 5], [4, 0]]))
    for row, (episode, start) in enumerate([(2, 5), (4, 0)]):
        frames = torch.from_numpy(data.frames(episode, 0, 25))[None]
        tokens, shown = tokenizer.follow(frames)
        assert torch.equal(batch["tokens"][row], tokens[0, start : start + 8])
        previous = torch.cat((frames[:, :1], shown), 1)[0, start : start + 8]
        assert torch.equal(batch["previous_frames"][row], previous)


def test_random_tokens_are_an_episodes_own_and_no_more_than_asked_for():
    seeds, tokens = torch.arange(500), torch.randint(40, (500, 64))
    together, alone = RandomTokens(seeds, 0.2, 40), RandomTokens(seeds[7:8], 0.2, 40)
    previous, shares = torch.zeros(500, 1), []
    for _ in range(20):
        corrupted = together(tokens, previous)
        assert torch.equal(alone(tokens[7:8], previous[7:8]), corrupted[7:8])
        shares.append((corrupted != tokens).float().mean(1))
    share = torch.stack(shares).mean(0)  # of each episode
    assert share.max() < 0.24 and share.min() < 0.01
    assert share.mean() == pytest.approx(0.2 / 3, rel=0.15)  # some are replaced by the same


@torch.no_grad()
def test_self_forcing_on_every_frame_is_the_worlds_dream(made):
    torch.manual_seed(0)
    world = presets.build(motion()).eval()
    data = EpisodeDataset(made.data)
    frames = torch.from_numpy(np.stack([data.frames(i, 0, 6) for i in (2, 4)]))
    actions = torch.from_numpy(np.stack([data.actions(i)[:5] for i in (2, 4)]))
    seeds, faithful = torch.tensor([7, 9]), []
    dreams = SelfForcing(world, actions, seeds, share=1.0)
    alone = SelfForcing(world, actions[1:], seeds[1:], share=0.7)
    together = SelfForcing(world, actions, seeds, share=0.7)
    _, shown = world.tokenizer.follow(frames, corrupt=dreams)
    assert torch.equal(shown[:, 1:], world.rollout(frames[:, :1], actions, seeds).frames)

    def both(tokens: Tensor, previous: Tensor) -> Tensor:
        corrupted = together(tokens, previous)
        assert torch.equal(corrupted[1:], alone(tokens[1:], previous[1:]))
        faithful.append((corrupted == tokens).all(1))
        return corrupted

    world.tokenizer.follow(frames, corrupt=both)
    kept = torch.stack(faithful, 1)
    assert kept[:, 0].all() and kept[:, 1:].any() and not kept.all()


def test_the_past_is_what_was_decoded_and_the_target_what_corrects_it(made):
    torch.manual_seed(0)
    world = presets.build(motion()).eval()
    data, fabric = EpisodeDataset(made.data), launch()
    encoding = token_encoding(world.tokenizer, 8, 4, dreamer=world, self_forcing=1.0)
    batch = CachedWindows(data, 8, encoding, None, fabric).batch(np.array([[2, 5], [4, 0]]))
    assert (batch["input_tokens"] != batch["tokens"]).any()
    batch["seeds"] = torch.arange(2)
    loss = world.dynamics.loss(batch)[0]
    blind = world.dynamics.loss(batch | {"input_tokens": batch["tokens"]})[0]
    assert loss.isfinite() and loss != blind
    tokenizer = load_run(made.tokenizer, "tokenizer")
    with pytest.raises(ValueError, match="supported for motion tokenizers.*add --self-forcing 0"):
        token_encoding(tokenizer, 8, 4, dreamer=world, self_forcing=1.0)
    with pytest.raises(ValueError, match="supported for motion tokenizers.*add --corruption 0"):
        token_encoding(tokenizer, 8, 4, corruption=0.1)


def test_dreams_of_other_sampling_settings_are_other_tokens():
    world = presets.build(motion()).eval()
    names = {
        token_encoding(world.tokenizer, 8, 4, dreamer=dreamer, self_forcing=1.0).name
        for dreamer in (world, world.sampled(), world.sampled(steps=2), world.sampled(threshold=1))
    }
    assert len(names) == 3


def test_tokens_are_computed_once_and_a_killed_computation_goes_on(made, tmp_path, monkeypatch):
    monkeypatch.setattr("world_models.training.token_cache.PACK_CLIPS", 20)
    monkeypatch.setattr("world_models.training.token_cache.BATCH_CLIPS", 5)
    shutil.copytree(made.data, tmp_path / "data", ignore=shutil.ignore_patterns("tokens"))
    data, fabric = EpisodeDataset(tmp_path / "data"), launch()
    tokenizer = load_run(made.tokenizer, "tokenizer")
    calls: list[int] = []

    def encode(frames):
        if len(calls) == 10:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(len(frames))
        return {"tokens": tokenizer.encode(frames)}

    encoding = replace(token_encoding(tokenizer, 8, 4), encode=encode)
    total = int(encoding.count(data.num_frames).sum())
    with pytest.raises(KeyboardInterrupt):
        compute(data, encoding, fabric)
    done = sum(calls)
    compute(data, encoding, fabric)
    assert total <= sum(calls) <= total + 25 and sum(calls) - done < total
    before = len(calls)
    store = compute(data, encoding, fabric)
    assert len(calls) == before
    expected = compute(EpisodeDataset(made.data), encoding, fabric)
    for key in (f"{entry.key}/tokens" for entry in data.entries):
        assert np.array_equal(store.rows(key, 0, 5), expected.rows(key, 0, 5))


def test_windows_can_be_chosen_for_holding_a_reward(made):
    data = EpisodeDataset(made.data)
    encoding = token_encoding(load_run(made.tokenizer, "tokenizer"), 8, 4)
    windows = CachedWindows(data, 8, encoding, None, launch())
    every = sequential_windows(windows.num_starts, length=1, stride=1)
    paid = windows.batch(every)["rewards"].ne(0).any(1).numpy()
    assert 0 < paid.mean() < 0.5
    assert np.array_equal(windows.with_events(), every[paid])
    loader = TokenLoader(windows, events=1.0, batch_size=16, seed=0)
    assert next(iter(loader))["rewards"].ne(0).any(1).all()


def test_workers_read_the_same_tokens_ahead(made):
    data = EpisodeDataset(made.data)
    encoding = token_encoding(load_run(made.tokenizer, "tokenizer"), 8, 4)
    windows = CachedWindows(data, 8, encoding, None, launch())
    alone, helped = (
        TokenLoader(windows, num_workers=number, batch_size=4, seed=0) for number in (0, 1)
    )
    batches = iter(helped)
    for ours, theirs in zip(alone, itertools.islice(batches, 3), strict=False):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_dynamics_training_reads_no_frame(made, monkeypatch):
    data = EpisodeDataset(made.data)
    encoding = token_encoding(load_run(made.tokenizer, "tokenizer"), 8, 4)
    windows = CachedWindows(data, 8, encoding, None, launch())

    def refuse(*args, **kwargs):
        raise AssertionError("a frame was read")

    monkeypatch.setattr("world_models.episodes.shard.ShardReader.frames", refuse)
    batch = windows.batch(np.array([[1, 2], [4, 3]]))
    assert batch["tokens"].shape == (2, 8, 16) and batch["rewards"].shape == (2, 7)

"""What is written comes back, once, in an order of its own, and nothing else does."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import asdict

import h5py
import numpy as np
import pytest

from tests.episode_data import MEANINGS, assert_equal, make_episode, write_episodes
from world_models.episodes import (
    Episode,
    EpisodeDataset,
    EpisodeInfo,
    EpisodeWriter,
    encode_episode,
    existing_indices,
    merge,
    verify,
)
from world_models.episodes.shard import CHUNK_FRAMES


@pytest.mark.parametrize("length", [1, 2, CHUNK_FRAMES - 1, CHUNK_FRAMES, CHUNK_FRAMES + 1, 100])
def test_an_episode_comes_back_bit_for_bit(tmp_path, length):
    original = make_episode(3, length, extra={"level": 5, "tags": ["a"]})
    write_episodes(tmp_path, [original])
    dataset = EpisodeDataset(tmp_path)
    assert dataset.entries[0].key == encode_episode(original).entry.key
    assert_equal(dataset.episode(0), original)


def test_windows_are_slices_of_the_episode(tmp_path):
    episodes = [make_episode(i, 30 + 11 * i) for i in range(4)]
    write_episodes(tmp_path, episodes)
    dataset = EpisodeDataset(tmp_path)
    for index, episode in enumerate(episodes):
        for start in range(0, len(episode) + 1 - 16 + 1, 5):
            window = dataset.window(index, start, 16)
            np.testing.assert_array_equal(window["frames"], episode.frames[start : start + 16])
            np.testing.assert_array_equal(window["actions"], episode.actions[start : start + 15])
            np.testing.assert_array_equal(window["rewards"], episode.rewards[start : start + 15])
        last = dataset.window(index, len(episode) + 1 - 16, 16)
        assert last["terminated"].tolist() == [False] * 14 + [episode.terminated]
        assert not dataset.window(index, len(episode) - 16, 16)["terminated"].any()


def test_a_window_past_the_end_of_an_episode_is_refused(tmp_path):
    write_episodes(tmp_path, [make_episode(0, 20), make_episode(1, 20)])
    dataset = EpisodeDataset(tmp_path)
    for start, length in ((6, 16), (-1, 16), (0, 22), (0, 0)):
        with pytest.raises(IndexError, match="has 21 frames"):
            dataset.window(0, start, length)


def test_order_and_fingerprint_do_not_depend_on_writers_or_shards(tmp_path):
    episodes = [make_episode(i) for i in range(12)]
    write_episodes(tmp_path / "one", episodes)
    for part in range(3):
        write_episodes(tmp_path / "three", episodes[part::3][::-1], max_shard_bytes=1)
    one, three = EpisodeDataset(tmp_path / "one"), EpisodeDataset(tmp_path / "three")
    assert (one.num_shards, three.num_shards) == (1, 12)
    assert one.fingerprint == three.fingerprint
    assert [e.info.index for e in three.entries] == list(range(12))
    for index, episode in enumerate(episodes):
        assert_equal(three.episode(index), episode)


def _write_part(path, part):
    write_episodes(path, [make_episode(i) for i in range(part, 24, 4)], max_shard_bytes=30_000)


def test_processes_write_into_one_dataset_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_part, args=(tmp_path, part)) for part in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert existing_indices(tmp_path) == set(range(24))
    report = verify(tmp_path)
    assert (report.num_episodes, report.damage, report.notes) == (24, [], [])


def test_an_episode_written_twice_is_there_once(tmp_path):
    write_episodes(tmp_path, [make_episode(0), make_episode(1)])
    write_episodes(tmp_path, [make_episode(1), make_episode(2)])
    assert len(EpisodeDataset(tmp_path)) == 3


def test_existing_indices_counts_only_what_matches(tmp_path):
    assert existing_indices(tmp_path / "nowhere") == set()
    write_episodes(tmp_path, [make_episode(1), make_episode(5), make_episode(6, policy="sticky")])
    assert existing_indices(tmp_path, lambda info: info.policy == "random") == {1, 5}


def test_select_and_split_are_stable_partitions(tmp_path):
    episodes = [make_episode(i, 2, policy=("random", "sticky")[i % 2]) for i in range(200)]
    write_episodes(tmp_path / "half", episodes[:100])
    write_episodes(tmp_path / "all", episodes)
    half, everything = EpisodeDataset(tmp_path / "half"), EpisodeDataset(tmp_path / "all")
    assert len(everything.select(policy="sticky")) == 100
    assert len(everything.select(where=lambda info: info.index < 30, env_id="Test/Scroll-v0")) == 30
    keys = {}
    for name in ("train", "val", "test"):
        keys[name] = {entry.key for entry in everything.split(name).entries}
        assert {entry.key for entry in half.split(name).entries} <= keys[name]
    assert sum(map(len, keys.values())) == 200 == len(set().union(*keys.values()))
    assert 160 <= len(keys["train"]) <= 195 and 5 <= len(keys["val"]) <= 35
    with pytest.raises(ValueError, match="must be one of"):
        everything.split("valid")


def test_merge_packs_small_shards_and_copies_each_episode_once(tmp_path):
    write_episodes(tmp_path / "a", [make_episode(i) for i in range(6)], max_shard_bytes=1)
    write_episodes(tmp_path / "b", [make_episode(i) for i in range(4, 9)], max_shard_bytes=1)
    out = tmp_path / "out"
    assert merge([tmp_path / "a", tmp_path / "b"], out) == 9
    assert merge([tmp_path / "a", tmp_path / "b"], out) == 0
    merged = EpisodeDataset(out)
    assert merged.num_shards == 1
    assert verify(out).damage == []
    for index in range(9):
        assert_equal(merged.episode(index), make_episode(index))
    with pytest.raises(ValueError, match="both source and output"):
        merge([out], out)


def test_frames_of_two_sizes_live_in_one_dataset(tmp_path):
    write_episodes(tmp_path, [make_episode(0), make_episode(1, size=24), make_episode(2)])
    dataset = EpisodeDataset(tmp_path)
    assert_equal(dataset.episode(1), make_episode(1, size=24))
    with pytest.raises(ValueError, match="do not share one frame shape.*select"):
        _ = dataset.frame_shape
    assert dataset.select(where=lambda info: info.index != 1).frame_shape == (16, 20, 3)


def test_any_zstd_hdf5_reader_gets_the_frames(tmp_path):
    """The documented layout, read with h5py's own calls and no code of ours."""
    from numcodecs import zstd

    episode = make_episode(0, 30)
    write_episodes(tmp_path, [episode])
    (shard,) = (tmp_path / "shards").iterdir()
    with h5py.File(shard) as file:
        chunk = zstd.decompress(file["frames"].id.read_direct_chunk((CHUNK_FRAMES, 0, 0, 0))[1])
        columns = np.frombuffer(chunk, np.uint8).reshape(file["frames"].chunks)
    rest = columns[: 31 - CHUNK_FRAMES].transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(rest, episode.frames[CHUNK_FRAMES:])


def test_a_10000_episode_dataset_opens_in_under_a_second(tmp_path):
    encoded = encode_episode(make_episode(0, 1, size=2, width=2))
    with EpisodeWriter(tmp_path) as writer:
        for index in range(10_000):
            info = make_episode(0, 1).info.to_json() | {"index": index}
            entry = type(encoded.entry).from_json(asdict(encoded.entry) | {"info": info})
            writer.add_encoded(type(encoded)(**{**vars(encoded), "entry": entry}))
            if index % 100 == 99:
                writer.flush()
    # In a process of its own: here, the objects of all tests slow down the garbage collection.
    opening = (
        "import sys, time; from world_models.episodes import EpisodeDataset\n"
        "start = time.process_time(); dataset = EpisodeDataset(sys.argv[1])\n"
        "print(time.process_time() - start, len(dataset), dataset.num_shards)"
    )
    printed = subprocess.check_output([sys.executable, "-c", opening, str(tmp_path)], text=True)
    seconds, *counts = printed.split()
    assert float(seconds) < 1
    assert counts == ["10000", "100"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((5, 4, 4, 3), np.float32)}, "must be a uint8 array"),
        ({"frames": np.zeros((5, 4, 4), np.uint8)}, "must be a uint8 array"),
        ({"frames": np.zeros((1, 4, 4, 3), np.uint8)}, "T >= 1"),
        ({"actions": np.zeros(5, int)}, "one per transition"),
        ({"actions": np.array([0, 1, 2, 3])}, r"must be in \[0, 3\)"),
        ({"actions": np.zeros(4)}, "must be integers"),
        ({"rewards": np.full(4, np.nan)}, "finite"),
    ],
)
def test_a_wrong_episode_is_refused_with_a_reason(change, message):
    good = {
        "frames": np.zeros((5, 4, 4, 3), np.uint8),
        "actions": np.zeros(4, int),
        "rewards": np.zeros(4),
        "terminated": False,
        "truncated": False,
        "info": EpisodeInfo(env_id="E-v0", action_set="s", action_meanings=MEANINGS),
    }
    Episode(**good)
    with pytest.raises(ValueError, match=message):
        Episode(**(good | change))


def test_metadata_must_be_json():
    with pytest.raises(ValueError, match="plain JSON"):
        make_episode(0, extra={"level": np.int64(3)})


def test_the_key_changes_with_every_part_of_the_content():
    base = make_episode(0)
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    keys = {encode_episode(base).entry.key}
    frames, actions, rewards = base.frames.copy(), base.actions.copy(), base.rewards.copy()
    frames[-1, -1, -1, -1] ^= 1
    actions[0] = (actions[0] + 1) % 3
    rewards[-1] += 1
    for change in (
        {"frames": frames},
        {"actions": actions},
        {"rewards": rewards},
        {"truncated": not base.truncated},
    ):
        keys.add(encode_episode(Episode(**(fields | change))).entry.key)
    assert len(keys) == 5


def test_the_package_needs_neither_torch_nor_gymnasium():
    code = (
        "import sys, json, world_models.episodes;"
        "print(json.dumps([m for m in ('torch', 'gymnasium', 'cv2', 'PIL') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_an_empty_directory_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="genie-gym collect"):
        EpisodeDataset(tmp_path)


def test_a_dataset_can_be_sent_to_another_process(tmp_path):
    write_episodes(tmp_path, [make_episode(0)])
    dataset = EpisodeDataset(tmp_path)
    dataset.episode(0)
    assert_equal(pickle.loads(pickle.dumps(dataset)).episode(0), make_episode(0))


def test_arguments_of_the_env_are_found_in_collected_and_in_recorded_play():
    names = {"env_id": "Game-v0", "action_set": "two", "action_meanings": ("A", "B")}
    for extra in ({"collection": {"env_kwargs": {"a": 1}}}, {"env_kwargs": {"a": 1}}):
        assert EpisodeInfo(**names, extra=extra).env_kwargs == {"a": 1}
    assert EpisodeInfo(**names).env_kwargs == {}

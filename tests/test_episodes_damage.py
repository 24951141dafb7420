"""Kill, fill the disk, flip bytes: nothing named is lost and nothing wrong is read."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from genie_gym.cli import main
from tests.episode_data import assert_equal, make_episode, write_episodes
from world_models.episodes import (
    DamagedShardError,
    EpisodeDataset,
    EpisodeWriter,
    StorageError,
    WindowSampler,
    existing_indices,
    merge,
    verify,
)

ROOT = Path(__file__).parent.parent
RESUMING_WRITER = """
import sys
from tests.episode_data import make_episode
from world_models.episodes import EpisodeWriter, existing_indices
path, total = sys.argv[1], int(sys.argv[2])
known = existing_indices(path)
with EpisodeWriter(path, max_shard_bytes=40_000) as writer:
    print("ready", flush=True)
    for index in range(total):
        if index not in known:
            writer.add(make_episode(index))
"""


def _start(path, total):
    command = [sys.executable, "-c", RESUMING_WRITER, str(path), str(total)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_killed_20_times_the_dataset_equals_an_uninterrupted_one(tmp_path):
    total, rng, kills = 4000, random.Random(0), 0
    while True:
        process = _start(tmp_path / "killed", total)
        named = existing_indices(tmp_path / "killed")
        if kills < 20:
            time.sleep(rng.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.communicate()
            assert named <= existing_indices(tmp_path / "killed")
            if kills == 10:
                assert verify(tmp_path / "killed").damage == []
        else:
            process.communicate()
            assert process.returncode == 0
            break
    write_episodes(tmp_path / "whole", [make_episode(i) for i in range(total)])
    assert kills == 20 and len(named) < total, "the kills came after the work was done"
    killed, whole = EpisodeDataset(tmp_path / "killed"), EpisodeDataset(tmp_path / "whole")
    assert killed.fingerprint == whole.fingerprint
    assert [e.info for e in killed.entries] == [e.info for e in whole.entries]
    assert verify(tmp_path / "killed").damage == []


def test_a_torn_manifest_line_is_as_if_never_written_and_is_reported(tmp_path):
    episodes = [make_episode(i) for i in range(3)]
    write_episodes(tmp_path, episodes, max_shard_bytes=1)
    (manifest,) = tmp_path.glob("manifest-*.jsonl")
    content = manifest.read_bytes()
    for cut in (1, 50, len(content.splitlines(keepends=True)[-1]) - 1):
        manifest.write_bytes(content[:-cut])
        assert len(EpisodeDataset(tmp_path)) == 2
        report = verify(tmp_path)
        assert report.damage == []
        assert "cut off" in report.notes[0][1] and report.notes[0][0] == manifest
        assert "leftover" in report.notes[1][1]


@pytest.fixture
def one_shard(tmp_path):
    """A dataset of three episodes in one shard, and the shard."""
    write_episodes(tmp_path, [make_episode(i) for i in range(3)])
    (shard,) = (tmp_path / "shards").iterdir()
    return tmp_path, shard


def test_a_flipped_byte_is_found_and_never_read(one_shard):
    """At any position: verify names the shard; reading gives the truth or an error."""
    path, shard = one_shard
    original = shard.read_bytes()
    truth = [make_episode(i) for i in range(3)]
    rng, refused = random.Random(0), 0
    for position in rng.sample(range(len(original)), 150):
        content = bytearray(original)
        content[position] ^= 1 << rng.randrange(8)
        shard.write_bytes(content)
        damaged = {file for file, _ in verify(path).damage}
        assert damaged == {shard}, position
        for index in range(3):
            try:
                assert_equal(EpisodeDataset(path).episode(index), truth[index])
            except DamagedShardError as error:
                assert str(shard) in str(error)
                refused += 1
    assert refused > 100


def test_a_flipped_byte_in_the_manifest_is_found(one_shard):
    path, _ = one_shard
    (manifest,) = path.glob("manifest-*.jsonl")
    original = manifest.read_bytes()
    for position in random.Random(1).sample(range(len(original) - 1), 60):
        content = bytearray(original)
        content[position] ^= 1
        manifest.write_bytes(content)
        assert verify(path).damage or verify(path).notes, position
        with pytest.raises((DamagedShardError, FileNotFoundError)):
            EpisodeDataset(path)


def test_a_missing_or_short_shard_is_named_and_refused_or_skipped(tmp_path):
    write_episodes(tmp_path, [make_episode(i) for i in range(4)], max_shard_bytes=1)
    first, second, *_ = sorted((tmp_path / "shards").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-10])
    with pytest.raises(DamagedShardError, match=first.name):
        EpisodeDataset(tmp_path)
    with pytest.warns(UserWarning, match="skipped") as caught:
        dataset = EpisodeDataset(tmp_path, on_damage="skip")
    assert [first.name in str(caught[0].message), second.name in str(caught[1].message)] == [1, 1]
    assert len(dataset) == 2
    assert {file for file, _ in verify(tmp_path).damage} == {first, second}


def _damage_one_of_four(tmp_path):
    write_episodes(tmp_path, [make_episode(i) for i in range(4)], max_shard_bytes=1)
    shard = sorted((tmp_path / "shards").iterdir())[2]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    return shard


def test_training_reads_around_damage_only_when_asked(tmp_path):
    shard = _damage_one_of_four(tmp_path)
    dataset = EpisodeDataset(tmp_path)
    windows = WindowSampler(dataset.num_frames, length=16, batch_size=64).batch(0)
    with pytest.raises(DamagedShardError, match=shard.name):
        dataset.batch(windows, 16)
    tolerant = EpisodeDataset(tmp_path, on_damage="skip")
    with pytest.warns(UserWarning, match=shard.name):
        batch = tolerant.batch(windows, 16)
    for frames, index, start in zip(batch["frames"], batch["episode"], batch["start"], strict=True):
        truth = make_episode(tolerant.entries[index].info.index)
        np.testing.assert_array_equal(frames, truth.frames[start : start + 16])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = tolerant.batch(windows, 16)
    np.testing.assert_array_equal(batch["episode"], again["episode"])


def test_the_summary_leaves_out_what_cannot_be_read(tmp_path, capsys):
    path, sheet = tmp_path / "data", tmp_path / "sheet.png"
    shard = _damage_one_of_four(path)
    with pytest.warns(UserWarning, match=shard.name):
        assert main(["data", "show", str(path), "--sheet", str(sheet)]) == 0
    assert "actions of" in capsys.readouterr().out and sheet.is_file()
    assert main(["data", "show", str(path), "--sheet", str(sheet), "--on-damage", "refuse"]) == 1
    for file in (path / "shards").iterdir():
        file.write_bytes(b"")
    with pytest.warns(UserWarning):
        assert main(["data", "show", str(path)]) == 1
    assert "genie-gym data verify" in capsys.readouterr().err


def test_merge_refuses_damage_or_leaves_it_out(tmp_path):
    shard = _damage_one_of_four(tmp_path / "a")
    with pytest.raises(DamagedShardError, match=shard.name):
        merge([tmp_path / "a"], tmp_path / "b")
    with pytest.warns(UserWarning, match=shard.name):
        merge([tmp_path / "a"], tmp_path / "b", on_damage="skip")
    assert len(EpisodeDataset(tmp_path / "b")) == 3
    assert verify(tmp_path / "b").damage == []


def test_a_full_disk_is_a_clear_error_and_what_was_written_stays(tmp_path):
    """A real file system of 200 kB; when it has room again, nothing is missing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root; the file size limit below tests the same path")
    try:
        writer = EpisodeWriter(disk, max_shard_bytes=60_000)
        added = 0
        with pytest.raises(StorageError, match="disk is full.*written before is intact"):
            while added < 100:
                added += 1
                writer.add(make_episode(added - 1))
        _check_after_failure(disk, added, writer)
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        writer.flush()
        assert existing_indices(disk) == set(range(added))
        assert verify(disk).damage == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _check_after_failure(path, added, writer):
    report = verify(path)
    assert report.damage == [] and report.notes == [], "no half-written file stays behind"
    assert 0 < report.num_episodes == added - writer.num_pending
    dataset = EpisodeDataset(path)
    for index in range(len(dataset)):
        assert_equal(dataset.episode(index), make_episode(dataset.entries[index].info.index))


def test_a_write_that_fails_halfway_leaves_nothing_half_written(tmp_path):
    """The file size limit stops a write in the middle of a shard."""
    writer = EpisodeWriter(tmp_path)
    writer.add(make_episode(0))
    writer.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        for index in range(1, 4):
            writer.add(make_episode(index))
        with pytest.raises(StorageError, match="file size limit"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _check_after_failure(tmp_path, 4, writer)
    writer.flush()
    assert existing_indices(tmp_path) == {0, 1, 2, 3}


def test_a_manifest_line_that_fails_halfway_is_taken_back(tmp_path):
    writer = EpisodeWriter(tmp_path)
    tiny = make_episode(0, 1, size=2, width=2, extra={"padding": "x" * 30_000})
    for _ in range(2):
        writer.add(tiny)
        writer.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, hard))
    try:
        writer.add(tiny)
        with pytest.raises(StorageError, match="manifest-.*file size limit"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    report = verify(tmp_path)
    assert (report.num_shards, report.damage, report.notes) == (2, [], [])
    writer.flush()
    assert verify(tmp_path).num_shards == 3


@pytest.fixture
def open_path():
    """A directory that other users may enter, as pytest's own is not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_read_only_directory_is_a_clear_error(open_path):
    """As an ordinary user: root may write anywhere."""
    path = open_path / "data"
    write_episodes(path, [make_episode(0)])
    for directory in (path / "shards", path):
        directory.chmod(0o555)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            assert_equal(EpisodeDataset(path).episode(0), make_episode(0))
            EpisodeWriter(path)
        except StorageError as error:
            code = 0 if "permission denied" in str(error) and str(path) in str(error) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0

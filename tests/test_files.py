"""What is written appears in one piece or not at all, and leaves nothing behind."""

import json
import os
from pathlib import Path

import pytest

from world_models.files import (
    atomic_directory,
    atomic_file,
    remove_leftovers,
    replace_text,
    write_json,
)


class PulledPlugError(Exception):
    pass


@pytest.fixture
def synced(monkeypatch) -> list[Path]:
    """What was waited for to be on disk, in order."""
    names: list[Path] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    return names


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as part:
        part.write_bytes(b"first")
        assert not path.exists()
    with pytest.raises(PulledPlugError), atomic_file(path) as part:
        part.write_bytes(b"sec")
        raise PulledPlugError
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["file"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as mine:
        mine.write_bytes(b"mine")
        with atomic_file(path) as other:
            other.write_bytes(b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"mine"


def test_a_durable_file_is_on_disk_before_its_name_is(tmp_path, synced):
    with atomic_file(tmp_path / "file", durable=True) as part:
        part.write_bytes(b"content")
    assert synced == [part, tmp_path]
    replace_text(tmp_path / "file", "other")
    assert len(synced) == 2


def test_a_directory_is_replaced_whole_or_stays_as_it_was(tmp_path, synced):
    path = tmp_path / "above" / "folder"
    with atomic_directory(path) as part:
        (part / "file").write_text("first")
        assert not path.exists()
    assert synced == [part / "file", part, path.parent]
    with pytest.raises(PulledPlugError), atomic_directory(path, replace=True) as part:
        (part / "file").write_text("sec")
        raise PulledPlugError
    assert (path / "file").read_text() == "first"
    with atomic_directory(path, replace=True) as part:
        (part / "other").write_text("second")
    assert os.listdir(path) == ["other"] and os.listdir(path.parent) == ["folder"]
    with pytest.raises(FileExistsError, match="choose another path"), atomic_directory(path):
        pass


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "world.part-dead").mkdir()
    (tmp_path / "world.part-dead" / "file").write_text("half")
    (tmp_path / "card.json.part-dead").write_text("half")
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


def test_a_directory_that_a_killed_writer_was_replacing_is_restored(tmp_path):
    for name in ("world.part-dead", "world.part-dead-old", "other", "other.part-dead-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["other", "world"]
    assert (tmp_path / "world" / "file").read_text() == "world.part-dead-old"
    assert (tmp_path / "other" / "file").read_text() == "other"


def test_json_makes_its_directory_and_comes_back(tmp_path):
    path = tmp_path / "new" / "value.json"
    write_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}

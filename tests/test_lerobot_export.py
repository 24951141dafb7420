"""Episodes as a LeRobot dataset: every byte is there, where the layout says."""

import json

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

from genie_gym.data import lerobot_io
from genie_gym.data.commands import main
from tests.episode_data import make_episode, write_episodes
from world_models.episodes import EpisodeDataset

FPS = 12


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Five episodes of two games in three pairs of files."""
    monkeypatch.setattr(lerobot_io, "FILE_FRAMES", 50)
    games = ("Test/Scroll-v0", "Test/Other-v0")
    lengths = (30, 21, 49, 2, 1)
    episodes = [make_episode(i, n, env_id=games[i == 2]) for i, n in enumerate(lengths)]
    write_episodes(tmp_path / "data", episodes)
    arguments = ["export", str(tmp_path / "data"), "--lerobot", str(tmp_path / "out")]
    assert main([*arguments, "--fps", str(FPS)]) == 0
    return EpisodeDataset(tmp_path / "data"), tmp_path / "out"


def decoded(path) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(b, np.uint8).reshape(height, width, 3) for b in reader])


def test_every_row_and_frame_is_where_the_layout_says(exported):
    dataset, out = exported
    info = json.loads((out / "meta/info.json").read_text())
    notes = parquet.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    tasks = pd.read_parquet(out / "meta/tasks.parquet")
    assert len(notes) == info["total_episodes"] == 5 and info["codebase_version"] == "v3.0"
    assert len({note["data/file_index"] for note in notes}) > 1
    for note, index in zip(notes, range(5), strict=True):
        episode, key = dataset.episode(index), "observation.image"
        place = {k: note[f"data/{k}"] for k in ("chunk_index", "file_index")}
        rows = parquet.read_table(out / info["data_path"].format(**place)).to_pandas()
        rows = rows[rows.episode_index == note["episode_index"]]
        assert rows["index"].tolist() == [
            *range(*(note[f"dataset_{k}_index"] for k in ("from", "to")))
        ]
        assert (rows.action == episode.actions).all()
        assert (rows["next.reward"].to_numpy() == episode.rewards).all()
        assert rows["next.done"].tolist() == [False] * (len(episode) - 1) + [True]
        assert rows["next.truncated"].iloc[-1] == episode.truncated
        assert tasks.iloc[rows.task_index.iloc[0]].name == f"Play {episode.info.env_id}"
        video = decoded(out / info["video_path"].format(video_key=key, **place))
        times = note[f"videos/{key}/from_timestamp"] + rows.timestamp.to_numpy()
        assert np.array_equal(video[(times * FPS).round().astype(int)], episode.frames[:-1])
    assert sum(note["length"] for note in notes) == info["total_frames"] == 103
    assert info["features"]["observation.image"]["shape"] == [16, 20, 3]


def test_statistics_are_those_of_all_rows(exported):
    dataset, out = exported
    stats = json.loads((out / "meta/stats.json").read_text())
    actions = np.concatenate([dataset.actions(i) for i in range(5)])
    assert stats["action"]["mean"] == pytest.approx([actions.mean()])
    assert stats["action"]["std"] == pytest.approx([actions.std()])
    assert stats["action"]["max"] == [2] and stats["action"]["count"] == [103]
    frames = np.concatenate([dataset.episode(i).frames[:-1] for i in range(5)]) / 255
    image = {name: np.array(value) for name, value in stats["observation.image"].items()}
    assert image["mean"].shape == (3, 1, 1)
    assert image["mean"].ravel() == pytest.approx(frames.mean((0, 1, 2)), abs=1e-9)
    assert image["std"].ravel() == pytest.approx(frames.std((0, 1, 2)), abs=1e-9)


def test_what_cannot_be_written_leaves_nothing(exported, tmp_path, capsys):
    with pytest.raises(FileExistsError):
        main(["export", str(tmp_path / "data"), "--lerobot", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "data"), "--lerobot", str(tmp_path / "x"), "--fps", "0"])
    assert "--fps must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "data"), "--lerobot", "x", "--out", "y.gif"])

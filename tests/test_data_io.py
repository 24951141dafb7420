"""Episodes into and out of other formats, and the `data` commands."""

from __future__ import annotations

import json
import warnings

import cv2
import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from genie_gym.cli import main as cli
from genie_gym.data.commands import main
from genie_gym.data.genieredux_io import GenieReduxSource, import_genieredux
from genie_gym.data.minari_io import MinariSource, export_minari, import_minari
from genie_gym.data.pictures import save_frames
from genie_gym.envs.frames import fit_square
from tests.episode_data import assert_equal, make_episode, write_episodes
from world_models.episodes import EpisodeDataset

pytest.importorskip("minari", reason='pip install "genie-gym[minari]"')
pytestmark = pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning:minari")


@pytest.fixture(autouse=True)
def minari_home(tmp_path, monkeypatch):
    """Keep Minari's local datasets out of the user's home."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.fixture
def dataset(tmp_path):
    """Three episodes of 64 by 64 frames, which Minari would store as JPEG."""
    episodes = [make_episode(i, 20 + i, size=64, width=64, extra={"i": i}) for i in range(3)]
    write_episodes(tmp_path / "data", episodes)
    return EpisodeDataset(tmp_path / "data")


def test_minari_round_trip_is_lossless(dataset, tmp_path):
    path = export_minari(dataset, "scroll/random-v0")
    for number, source in enumerate(("scroll/random-v0", str(path), str(path.parent))):
        out = tmp_path / f"back{number}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert import_minari(MinariSource(dataset=source), out) == 3
        back = EpisodeDataset(out)
        assert back.fingerprint == dataset.fingerprint
        for index in range(3):
            assert_equal(back.episode(index), dataset.episode(index))
    assert import_minari(MinariSource(dataset="scroll/random-v0"), out) == 0, "all are there"


def test_minari_itself_reads_what_was_exported(dataset):
    import minari

    export_minari(dataset, "scroll/random-v0")
    loaded = minari.load_dataset("scroll/random-v0")
    assert (loaded.total_episodes, loaded.total_steps) == (3, 20 + 21 + 22)
    assert loaded.action_space == gym.spaces.Discrete(3)
    episode = loaded[1]
    truth = dataset.episode(1)
    np.testing.assert_array_equal(episode.observations.transpose(0, 2, 3, 1), truth.frames)
    np.testing.assert_array_equal(episode.actions, truth.actions)
    np.testing.assert_array_equal(episode.rewards, truth.rewards)
    assert episode.truncations[-1] and not episode.terminations.any()


def _minari_dataset(observations, space, name="other/thing-v0", num_actions=4):
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    length = 10
    buffer = EpisodeBuffer(
        observations=observations,
        actions=np.arange(length) % num_actions,
        rewards=np.ones(length),
        terminations=np.arange(length) == length - 1,
        truncations=np.zeros(length, bool),
        infos={},
        seed=11,
    )
    minari.create_dataset_from_buffers(
        name,
        buffer=[buffer],
        observation_space=space,
        action_space=gym.spaces.Discrete(num_actions),
        algorithm_name="expert",
    )


def test_a_foreign_jpeg_dataset_is_imported_with_a_warning_and_resized(tmp_path):
    picture = np.full((11, 210, 160, 3), (200, 30, 30), np.uint8)
    _minari_dataset(picture, gym.spaces.Box(0, 255, picture.shape[1:], np.uint8))
    source = MinariSource(dataset="other/thing-v0", frame_size=64)
    with pytest.warns(UserWarning, match="JPEG"):
        import_minari(source, tmp_path / "out")
    episode = EpisodeDataset(tmp_path / "out").episode(0)
    assert episode.frames.shape == (11, 64, 64, 3)
    assert not episode.frames[:, :, :7].any(), "padded with black on both sides"
    inside = episode.frames[:, 5:60, 10:54].astype(int)
    assert np.abs(inside - (200, 30, 30)).max() <= 3
    assert (episode.info.seed, episode.info.policy, episode.terminated) == (11, "expert", True)
    assert episode.info.action_meanings == ("action_0", "action_1", "action_2", "action_3")


def test_the_image_of_a_dict_observation_is_found(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (11, 3, 8, 10), np.uint8)
    space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (3, 8, 10), np.uint8), speed=gym.spaces.Box(-1.0, 1.0, (2,))
    )
    _minari_dataset({"image": pictures, "speed": np.zeros((11, 2))}, space)
    for added in (1, 0):
        assert import_minari(MinariSource(dataset="other/thing-v0"), tmp_path / "out") == added
    frames = EpisodeDataset(tmp_path / "out").episode(0).frames
    np.testing.assert_array_equal(frames, pictures.transpose(0, 2, 3, 1))


def _genieredux(root, *, one_hot, video=False, steps=12):
    """The release's layout: frame k is grey level 20 k; record k leads from k - 1 to k."""
    frames = [np.full((64, 64, 3), 20 * k, np.uint8) for k in range(steps + 1)]
    for session in range(2):
        path = root / "000003" / f"{session:06d}"
        (path / "frames").mkdir(parents=True)
        records = []
        for k, frame in enumerate(frames):
            action = (k + session) % 5
            records.append(
                {
                    "src_id": k - 1,
                    "tgt_id": k,
                    "action": np.eye(5, dtype=int)[action].tolist() if one_hot else action,
                    "extras": {},
                }
            )
            if not video:
                cv2.imwrite(str(path / "frames" / f"{k:06d}.jpg"), frame)
        if video:
            save_frames(np.stack(frames), path / "frames.mp4", scale=1)
        (path / "actions.json").write_text(json.dumps({"actions": records}))
    info = {"name": "retro_kangaroo", "version": "0.1.0", "info": {"action_space": [5]}}
    (root / "info.json").write_text(json.dumps(info))


@pytest.mark.parametrize(("one_hot", "video"), [(True, False), (False, False), (True, True)])
def test_the_genieredux_layout_is_imported_with_its_alignment(tmp_path, one_hot, video):
    _genieredux(tmp_path / "set", one_hot=one_hot, video=video)
    source = GenieReduxSource(root=tmp_path / "set")
    for expected in (2, 0):  # a second import finds everything there
        with pytest.warns(UserWarning, match="JPEG or MP4.*28 to 32 dB"):
            assert import_genieredux(source, tmp_path / "out") == expected
    dataset = EpisodeDataset(tmp_path / "out")
    assert [e.info.env_id for e in dataset.entries] == ["GenieReduxData/retro_kangaroo"] * 2
    for session in range(2):
        episode = dataset.episode(session)
        levels = episode.frames.reshape(13, -1).mean(1)
        np.testing.assert_allclose(levels, 20 * np.arange(13), atol=4)
        assert episode.actions.tolist() == [(k + session) % 5 for k in range(1, 13)]
        assert (episode.terminated, episode.truncated) == (False, True)


def test_a_gap_in_a_genieredux_session_is_refused(tmp_path):
    _genieredux(tmp_path / "set", one_hot=True)
    file = next((tmp_path / "set").glob("*/*/actions.json"))
    records = json.loads(file.read_text())["actions"]
    file.write_text(json.dumps({"actions": records[:5] + records[6:]}))
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="has a gap"):
        import_genieredux(GenieReduxSource(root=tmp_path / "set"), tmp_path / "out")


def test_a_frame_is_padded_to_a_square_before_it_is_resized():
    tall = np.full((210, 160, 3), 255, np.uint8)
    small = fit_square(tall, 42)
    assert small.shape == (42, 42, 3)
    assert small[:, 6:36].all() and not small[:, :5].any() and not small[:, 37:].any()


def test_pictures_show_the_frames(dataset, tmp_path):
    frames = dataset.frames(0, 0, 8)
    for name in ("a.gif", "a.mp4", "a.png"):
        save_frames(frames, tmp_path / "new" / name, scale=2)
    strip = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    np.testing.assert_array_equal(strip[::2, 132:260:2], frames[1])
    with Image.open(tmp_path / "new" / "a.gif") as gif:
        assert (gif.n_frames, gif.size) == (8, (128, 128))
    video = cv2.VideoCapture(str(tmp_path / "new" / "a.mp4"))
    read = [video.read() for _ in range(9)]
    assert [ok for ok, _ in read] == [True] * 8 + [False]
    assert read[0][1].shape == (128, 128, 3)
    with pytest.raises(ValueError, match=r"must end in one of"):
        save_frames(frames, tmp_path / "a.avi")


def test_an_mp4_has_the_right_colours(tmp_path):
    red = np.full((5, 64, 64, 3), (220, 20, 20), np.uint8)
    save_frames(red, tmp_path / "red.mp4", scale=1)
    _, frame = cv2.VideoCapture(str(tmp_path / "red.mp4")).read()
    np.testing.assert_allclose(frame[20:40, 20:40, ::-1].mean((0, 1)), (220, 20, 20), atol=12)


def test_show_counts_what_is_there(dataset, capsys, tmp_path):
    assert main(["show", str(dataset.path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "episodes      3" in out and "frames        66" in out
    for number, meaning in enumerate(("NOOP", "LEFT", "RIGHT")):
        count = sum((dataset.actions(i) == number).sum() for i in range(3))
        assert any(line.split()[1:3] == [meaning, str(count)] for line in out.splitlines())
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (12 * (128 + 4) + 4, 3 * (18 + 128 + 4) + 4)


def test_verify_names_damage_and_fails(dataset, capsys):
    assert main(["verify", str(dataset.path)]) == 0
    assert "3 episodes, 66 frames, 1 shards: intact" in capsys.readouterr().out
    (shard,) = (dataset.path / "shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["verify", str(dataset.path)]) == 1
    assert f"DAMAGED: {shard}" in capsys.readouterr().out


def test_merge_export_and_import_commands(dataset, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert main(["merge", str(dataset.path), str(dataset.path), "--out", out]) == 0
    assert "3 episodes copied" in capsys.readouterr().out
    picture = tmp_path / "window.gif"
    window = ["--episode", "1", "--start", "4", "--length", "6", "--out", str(picture)]
    assert main(["export", out, *window]) == 0
    with Image.open(picture) as gif:
        assert gif.n_frames == 6
    assert main(["export", out, "--minari", "scroll/copy-v0"]) == 0
    back = ["scroll/copy-v0", "--layout", "minari", "--out", str(tmp_path / "back")]
    assert main(["import", *back]) == 0
    assert EpisodeDataset(tmp_path / "back").fingerprint == dataset.fingerprint
    assert main(["import", *back]) == 0
    assert "0 episodes added" in capsys.readouterr().out


def test_mistakes_are_named(dataset, tmp_path, capsys):
    assert cli(["data", "show", str(tmp_path / "nothing")]) == 1
    assert "genie-gym collect" in capsys.readouterr().err
    assert cli(["data", "export", str(dataset.path), "--episode", "3", "--out", "a.gif"]) == 1
    assert "--episode must be from 0 to 2" in capsys.readouterr().err
    assert cli(["data", "export", str(dataset.path), "--start", "999", "--out", "a.gif"]) == 1
    assert "--start must be from 0 to" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli(["data", "export", str(dataset.path), "--fps", "0", "--out", "a.gif"])
    assert "--fps must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli(["data", "export", str(dataset.path)])
    assert "expected exactly one of --out FILE" in capsys.readouterr().err
    for layout, option in (("minari", "--env-id"), ("genieredux", "--image-key")):
        with pytest.raises(SystemExit):
            cli(["data", "import", "x", "--layout", layout, "--out", "y", option, "z"])
        assert f"{option} does not apply to --layout {layout}" in capsys.readouterr().err

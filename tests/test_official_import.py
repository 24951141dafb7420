"""The authors' files become a world by commands, which is played, measured and given rewards."""

import dataclasses
import json
import pickle
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from genie_gym.actions import action_set
from genie_gym.cli import main
from tests.official_files import FRAME_SIZE, expected, model, write, write_all
from tests.square_episodes import make_episode
from world_models.episodes import EpisodeWriter
from world_models.worlds.bundle import load_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Small datasets with the frames and the actions of the fixtures, by action set."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("retroact-5", "coinrun-7"):
        with EpisodeWriter(folder / name) as writer:
            for index in range(8):
                episode = make_episode(index, 24, FRAME_SIZE)
                meanings = action_set(name).meanings
                info = dataclasses.replace(episode.info, action_set=name, action_meanings=meanings)
                writer.add(dataclasses.replace(episode, info=info))
    return {name: folder / name for name in ("retroact-5", "coinrun-7")}


KINDS = {"2025/guided": "retroact-5", "2024/guided": "coinrun-7", "2024/latent": "coinrun-7"}


def command(files, datasets, kind, out, *more):
    tokenizer, dynamics = files[f"{kind[:4]}/tokenizer"], files[kind]
    size = [] if kind.startswith("2025") else ["--frame-size", "24"]
    words = ["--tokenizer", tokenizer, "--dynamics", dynamics, "--out", out, *size]
    words += ["--starts", datasets[KINDS[kind]], *more]
    return ["worlds", "import-genieredux", *map(str, words)]


@pytest.fixture(scope="module", params=KINDS)
def imported(request, files, datasets, tmp_path_factory):
    """The kind of a world and its bundle."""
    out = tmp_path_factory.mktemp("worlds") / "CoinRunOfficial"
    assert main(command(files, datasets, request.param, out)) == 0
    return request.param, out


def test_its_card_says_where_it_comes_from(imported, capsys):
    kind, out = imported
    assert main(["worlds", "verify", str(out)]) == 0
    assert main(["worlds", "show", str(out), "--json"]) == 0
    card = json.loads(capsys.readouterr().out.splitlines()[-1])
    source, files = card["provenance"]["source"], card["provenance"]["files"]
    assert source.startswith("GenieRedux-G " if "guided" in kind else "GenieRedux ")
    assert f"{kind[:4]} format, step 4" in source
    assert all(len(file["sha256"]) == 64 for file in files.values())
    verified = "against the official code's outputs on random weights"
    assert card["provenance"]["verified"] == verified
    assert card["outcomes"] is False
    sampling = card["sampling"]
    assert (sampling["steps"], sampling["temperature"]) == (
        (25, 1.0) if kind.startswith("2025") else (1, 0.0)
    )
    if "latent" in kind:
        assert card["action_set"] == "latent-7" and card["action_meanings"][0] == "LATENT-0"


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_a_bundle_holds_the_models_of_the_files(files, datasets, tmp_path, storage):
    words = command(files, datasets, "2024/latent", tmp_path / "world", "--storage", storage)
    assert main(words) == 0
    world, outputs = load_world(tmp_path / "world").model, expected(2024)
    close = (world.tokenizer.encode(outputs["frames"]) == outputs["tokens"]).float().mean()
    assert close == 1 if storage == "float32" else close > 0.9
    found = world.latent_action.actions(outputs["frames"])
    assert torch.equal(found, outputs["latent_named"])


def test_it_is_an_env_that_goes_on_past_the_horizon(imported):
    kind, out = imported
    horizon = load_world(out).model.dynamics.config.horizon
    with pytest.warns(UserWarning, match="predicts neither rewards nor terminations") as caught:
        env = gym.make("GenieRedux/CoinRunOfficial-v0", world=out, dtype="float32")
    assert len([w for w in caught if "neither rewards" in str(w.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns once, not in each step
        frames, info = env.reset(seed=0)
        assert info["outcome"] is False
        shown = [frames]
        for step in range(100):
            frames, reward, terminated, truncated, info = env.step(step % env.action_space.n)
            assert reward == 0 and not terminated and not truncated
            assert info["outcome"] is False and 0 <= info["entropy"] <= 2
            shown.append(frames)
    assert horizon < 100
    late = np.stack(shown[-horizon:])
    assert (late[1:] != late[:-1]).any((1, 2, 3)).all()  # it still moves
    with pytest.warns(UserWarning, match="neither rewards"):
        check_env(gym.make("GenieRedux/CoinRunOfficial-v0", world=out).unwrapped)


def test_fidelity_is_measured_by_command(imported, datasets, tmp_path):
    kind, out = imported
    found = tmp_path / "found.json"
    words = f"bench fidelity {out} --data {datasets[KINDS[kind]]} --split all --quick --windows 2"
    words += f" --steps 4 --prompt 2 --long-dreams 1 --long-frames 100 --json {found}"
    assert main(words.split()) == 0
    figures = json.loads(found.read_text())
    assert "reward_recall" not in json.dumps(figures)
    assert "psnr_ceiling" in json.dumps(figures)


def test_training_the_outcome_head_alone_adds_rewards(imported, datasets, tmp_path):
    kind, world = imported
    data, run, out = datasets[KINDS[kind]], tmp_path / "run", tmp_path / "CoinRunOfficial"
    words = f"train dynamics coinrun-tiny --from {world} --outcome-only --data {data} --out {run}"
    words += " --fit.steps 6 --fit.batch-size 2 --fit.learning-rate 0.02 --fit.warmup-steps 1"
    words += " --fit.ema-decay 0 --fit.save-every 6 --fit.precision fp32"
    assert main(words.split()) == 0
    words = f"train bundle --data {data} --tokenizer {world} --dynamics {run} --out {out}"
    words += " --storage float32"
    words += f" --latent-action {world}" if "latent" in kind else ""
    assert main(words.split()) == 0
    before, after = load_world(world), load_world(out)
    assert after.card.outcomes and after.model.sampling == before.model.sampling
    assert after.card.provenance["source"] == before.card.provenance["source"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("GenieRedux/CoinRunOfficial-v0", world=out, dtype="float32")
        assert "outcome" not in env.reset(seed=0)[1]
        rewards = []
        for seed in range(4):
            env.reset(seed=seed)
            rewards.append(env.step(0)[1])
    assert all(rewards)
    frozen = [n for n, _ in before.model.named_parameters() if "outcome" not in n]
    weights = [dict(part.model.named_parameters()) for part in (before, after)]
    for name in frozen:
        assert torch.equal(weights[0][name], weights[1][name]), name


def test_starts_are_played_on_the_spot(tmp_path, files):
    """With frames of 64 pixels: the position table of this file has two frames of 256 tokens."""
    words = ["--tokenizer", files["2024/tokenizer"], "--dynamics", files["2024/guided"]]
    words += ["--out", tmp_path / "world", "--starts", "Procgen/CoinRun-v0"]
    words += ["--env-kwargs", "velocity_map", "true"]
    assert main(["worlds", "import-genieredux", *map(str, words)]) == 0
    world = load_world(tmp_path / "world")
    assert world.starts.frames.shape[1:] == (4, 64, 64, 3)
    assert world.card.env_id == "Procgen/CoinRun-v0"
    assert world.card.env_kwargs == {"action_set": "coinrun-7", "velocity_map": True}
    assert world.card.provenance["starts"] == "Procgen/CoinRun-v0, played by the policy sticky"


# Dreams past the horizon ----------------------------------------------------------------------


def test_past_the_horizon_a_dream_goes_on_from_its_last_frames(imported):
    """It is then the dream of a new clip that begins with them."""
    _, out = imported
    world = load_world(out).model.sampled(carried_frames=3)
    horizon = world.dynamics.config.horizon
    frames, actions = expected(2024)["frames"][:, :2], torch.arange(horizon + 4)[None] % 5
    dream = world.rollout(frames, actions)
    shown = torch.cat((frames, dream.frames), 1)
    last = horizon + 1  # frames that the first clip reaches
    anew = world.rollout(shown[:, last - 3 : last], actions[:, last - 3 :])
    assert torch.equal(dream.frames[:, last - 2 :], anew.frames)
    other = load_world(out).model.sampled(carried_frames=1).rollout(frames, actions)
    assert torch.equal(dream.frames[:, : last - 2], other.frames[:, : last - 2])
    assert not torch.equal(dream.frames[:, last - 2 :], other.frames[:, last - 2 :])


def test_rows_reach_the_horizon_alone_and_states_can_be_saved_across_it(imported):
    _, out = imported
    steps = load_world(out).model.dynamics.config.horizon + 6
    options = {"world": out, "dtype": "float32"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = gym.make_vec("GenieRedux/CoinRunOfficial-v0", num_envs=2, **options)
        one = gym.make("GenieRedux/CoinRunOfficial-v0", **options)
    two.reset(seed=[7, 8])
    for _ in range(5):
        two.step(np.array([1, 2]))
    two.reset(seed=[9, None], options={"reset_mask": np.array([True, False])})
    one.reset(seed=9)
    for step in range(steps):
        if step == 3:
            saved = one.unwrapped.save_state()
        both = two.step(np.array([step % 3, step % 4]))[0]
        alone = one.step(step % 3)[0]
        assert np.array_equal(both[0], alone), step
    one.unwrapped.load_state(saved)
    again = [one.step(step % 3)[0] for step in range(3, steps)][-1]
    assert np.array_equal(again, alone)


# What is refused ------------------------------------------------------------------------------


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def changed(name, change):
    """A fault: one tensor of the dynamics is changed, or removed."""

    def fault(folder):
        parts = model("2024/guided")
        tensor = parts["dynamics"].pop(name)
        if change is not None:
            parts["dynamics"][name] = change(tensor)
        return write(folder / "model.pt", parts)

    return fault


def truncated(folder):
    path = write(folder / "model.pt", model("2024/guided"))
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def plain_pickle(folder):
    path = folder / "model.pt"
    path.write_bytes(pickle.dumps(Payload(folder / "harm")))
    return path


def zip_with_payload(folder):
    torch.save({"step": 1, "model": Payload(folder / "harm")}, folder / "model.pt")
    return folder / "model.pt"


def other_content(folder):
    torch.save({"weights": torch.zeros(3)}, folder / "model.pt")
    return folder / "model.pt"


def broken_inside(folder):
    path = write(folder / "model.pt", model("2024/guided"))
    content = bytearray(path.read_bytes())
    place = content.index(b"data.pkl") + 100
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    return path


def embedded(folder):
    """As many action channels as token channels."""
    parts = model("2024/guided")
    dynamics = parts["dynamics"]
    dynamics["maskgit.transformer.norm_out.gamma"] = torch.ones(80)
    return write(folder / "model.pt", parts)


def extra(folder):
    parts = model("2024/guided")
    parts["dynamics"]["maskgit.secret"] = torch.zeros(2)
    return write(folder / "model.pt", parts)


def no_latent(folder):
    parts = model("2024/latent")
    del parts["latent_action_model"]
    return write(folder / "model.pt", parts)


LOGITS = "maskgit.to_logits.weight"
FAULTS = {
    "missing file": (lambda folder: folder / "model.pt", "is not a file; pass the path of a"),
    "truncated": (truncated, "is truncated: it has .* bytes .*; download it again"),
    "broken inside": (broken_inside, "is damaged or not a checkpoint|more than tensors"),
    "plain pickle": (plain_pickle, "is not a checkpoint: expected the zip .* not loaded; use"),
    "payload in a zip": (zip_with_payload, "holds more than tensors, so loading it could run code"),
    "other content": (other_content, 'expected "step" and "model", got .*weights.*; use'),
    "missing tensor": (changed(LOGITS, None), f"tensor '{LOGITS}' is missing; download"),
    "wrong shape": (
        changed(LOGITS, lambda x: x[:, 1:]),
        rf"tensor '{LOGITS}' has shape \(48, 46\), expected \(48, 47\)",
    ),
    "NaN": (changed(LOGITS, lambda x: x / 0), "holds NaN or infinity"),
    "unknown tensor": (extra, "tensor 'maskgit.secret' is not part of the published model"),
    "codebook of another tokenizer": (
        changed("maskgit.token_emb.weight", lambda x: x[:-3]),
        "the model predicts 45 codes, but the tokenizer has 48; use the tokenizer",
    ),
    "action embeddings": (embedded, "trained with use_action_embeddings.*not in the file"),
    "GenieRedux without its latent action model": (no_latent, "no action channels.*use"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_refused_in_one_line(files, datasets, tmp_path, capsys, fault):
    make, message = FAULTS[fault]
    changed = {**files, "2024/guided": make(tmp_path)}
    refused(command(changed, datasets, "2024/guided", tmp_path / "out"), message, capsys)
    assert not (tmp_path / "harm").exists()  # nothing ran
    assert not (tmp_path / "out").exists()


def refused(words, message, capsys):
    assert main(words) == 1
    said = capsys.readouterr().err
    line = said.strip().splitlines()[-1]
    assert line.startswith("genie-gym worlds: ") and "Traceback" not in said
    assert re.search(message, line), line


def test_files_of_another_world_are_refused(files, datasets, tmp_path, capsys):
    out = tmp_path / "out"
    one = command(files, datasets, "2024/guided", out)
    refused([*one, "--frame-size", "96"], r"are 0 frames of 576 tokens.*--frame-size", capsys)
    refused([*one, "--frame-size", "48"], r"\(24, 24, 3\), but the world model has \(48", capsys)
    refused([*one, "--frame-size", "30"], "not a multiple of patch 4", capsys)
    latent = command(files, datasets, "2024/latent", out, "--frame-size", "32")
    refused(latent, r"'to_action_emb.1.weight' has shape .*; check --frame-size", capsys)
    year = command(files, datasets, "2025/guided", out)
    refused([*year, "--frame-size", "32"], "config.yaml says frames of 24 pixels", capsys)
    refused([*one, "--latent-action"], "has no latent action model", capsys)
    refused([*one, "--action-set", "retroact-5"], "but the action set retroact-5 has 5", capsys)
    refused([*one, "--starts", str(datasets["retroact-5"])], "has the actions RIGHT", capsys)
    swapped = {**files, "2024/tokenizer": files["2024/guided"]}
    refused(command(swapped, datasets, "2024/guided", out), "expected a tokenizer", capsys)
    swapped = {**files, "2024/guided": files["2024/tokenizer"]}
    refused(command(swapped, datasets, "2024/guided", out), "expected dynamics", capsys)
    assert not out.exists()


def test_what_a_run_of_2025_says_about_its_tokenizer_is_checked(datasets, tmp_path, capsys):
    files, out = write_all(tmp_path), tmp_path / "out"
    config = files["2025/guided"].with_name("config.yaml")
    text = config.read_text()
    config.write_text(text.replace("codebook_size: 48", "codebook_size: 512"))
    words = command(files, datasets, "2025/guided", out)
    refused(words, "names a tokenizer with codebook_size 512, .* has 48", capsys)
    config.write_text(text.replace("use_action_embeddings: false", "use_action_embeddings: true"))
    refused(words, "trained with use_action_embeddings", capsys)
    config.write_text(text.replace("use_token: true", "use_token: false"))
    refused([*words, "--token-input"], "sets use_token to false", capsys)
    config.write_text(text)
    files["2025/guided"].with_name("tokenizer.pt").write_bytes(files["2024/tokenizer"].read_bytes())
    refused(words, "was trained with the tokenizer .*, which differs from", capsys)
    assert not out.exists()

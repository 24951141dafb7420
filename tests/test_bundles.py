"""World bundles: the same model comes back, and whatever is wrong is named."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genie_gym.worlds_commands import main
from world_models import presets
from world_models.worlds.bundle import StartBank, load_world, record_scores, save_world
from world_models.worlds.card import BundleError, WorldCard, file_record
from world_models.worlds.find import WorldNotFoundError, find_world, list_worlds
from world_models.worlds.storage import pack, unpack

ACTIONS = ("NOOP", "LEFT", "RIGHT")
CARD = WorldCard(
    name="Toy",
    action_set="toy-3",
    action_meanings=ACTIONS,
    env_id="Test/Toy-v0",
    env_kwargs={"level": 3},
    provenance={"data": "toy"},
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return presets.build(presets.tiny(num_actions=3), latent_action=True).eval()


@pytest.fixture(scope="module")
def starts():
    torch.manual_seed(0)
    frames = torch.randint(256, (5, 3, 16, 16, 3), dtype=torch.uint8)
    return StartBank(frames=frames, actions=torch.randint(3, (5, 2)))


@pytest.fixture
def bundle(tmp_path, model, starts) -> Path:
    save_world(tmp_path / "Toy", CARD, model, starts)
    return tmp_path / "Toy"


def dreamed(model, starts) -> torch.Tensor:
    actions = torch.tensor([[1, 2, 0, 1, 2]]).repeat(5, 1)
    return model.rollout(starts.frames, actions, torch.arange(5)).frames


def test_a_saved_world_dreams_the_same_dream(bundle, model, starts):
    world = load_world(bundle)
    assert torch.equal(dreamed(world.model, world.starts), dreamed(model, starts))
    for name, value in model.state_dict().items():
        assert torch.equal(world.model.state_dict()[name], value)
    assert world.model.tokenizer.config == model.tokenizer.config
    assert world.model.tokenizer.space == model.tokenizer.space == world.model.dynamics.space
    assert world.model.dynamics.config == model.dynamics.config
    assert world.model.sampling == model.sampling
    assert (world.card.env_kwargs, world.card.action_meanings) == ({"level": 3}, ACTIONS)
    assert sorted(world.card.files) == [
        "dynamics.safetensors",
        "latent_action.safetensors",
        "starts.safetensors",
        "tokenizer.safetensors",
    ]


@pytest.mark.parametrize(
    ("storage", "share", "error"), [("bfloat16", 0.6, 2**-8), ("int8", 0.4, 1 / 254)]
)
def test_smaller_storage_keeps_codes_exactly_and_matrices_nearly(
    tmp_path, model, starts, storage, share, error
):
    full = save_world(tmp_path / "full", CARD, model, starts)
    card = save_world(tmp_path / "small", CARD, model, starts, storage=storage)
    name = "dynamics.safetensors"
    assert card.files[name]["bytes"] < share * full.files[name]["bytes"] + 20_000
    loaded, before = load_world(tmp_path / "small").model, model.state_dict()
    for name, value in loaded.state_dict().items():
        if value.is_floating_point() and name.endswith("weight") and value.ndim == 2:
            bound = error * before[name].abs().amax(1, keepdim=True) + 1e-9
            assert ((value - before[name]).abs() <= bound).all(), name
        else:
            assert torch.equal(value, before[name]), name
    assert torch.equal(loaded.tokenizer.codes(), model.tokenizer.codes())


def test_packing_int8_twice_changes_nothing_more(model):
    once = unpack(pack(model, "int8"))
    model2 = presets.build(presets.tiny(num_actions=3), latent_action=True)
    model2.load_state_dict(once)
    twice = unpack(pack(model2, "int8"))
    for name, value in once.items():
        assert torch.allclose(twice[name], value, rtol=1e-5, atol=1e-8), name


def broken(bundle: Path, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        load_world(bundle)


def rewrite(bundle: Path, file: str, change) -> None:
    """Change the tensors of a file and give it a right checksum, as a careless tool would."""
    tensors = load_file(bundle / file)
    change(tensors)
    save_file(tensors, bundle / file)
    edit(bundle, lambda card: card["files"].update({file: file_record(bundle / file)}))


def edit(bundle: Path, change) -> None:
    card = json.loads((bundle / "world.json").read_text())
    card.pop("checksum", None)
    change(card)
    (bundle / "world.json").write_text(json.dumps(card))


def test_truncated_file(bundle):
    file = bundle / "dynamics.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    broken(bundle, r"dynamics\.safetensors has .* bytes.*truncated")


def test_flipped_bit(bundle):
    file = bundle / "tokenizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    broken(bundle, r"tokenizer\.safetensors does not have the checksum")


def test_no_weights_at_all(bundle):
    for file in bundle.glob("*.safetensors"):
        file.unlink()
    edit(bundle, lambda card: card.update(files={}))
    broken(bundle, r"has no weights \(\*\.safetensors\)")


def test_missing_file(bundle):
    (bundle / "starts.safetensors").unlink()
    broken(bundle, r"starts\.safetensors is missing")


def test_unknown_version(bundle):
    for other in (1, 3):
        edit(bundle, lambda card, other=other: card.update(format=other))
        broken(bundle, rf"world\.json has format {other}, but this version of genie-gym reads 2")


def test_damaged_card(bundle):
    (bundle / "world.json").write_text("{")
    broken(bundle, r"world\.json cannot be read")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("env_id"), "incomplete.*env_id"),
        (lambda c: c.update(rounded_rewards=True), "rounded_rewards needs rewards"),
        (lambda c: c.update(colour="red"), r"unknown entries \['colour'\]"),
        (lambda c: c["dynamics"].update(speed=9), "DynamicsConfig has no.*speed"),
        (lambda c: c["dynamics"]["space"].update(num_codes=33), "has the token space .*33"),
        (lambda c: c["dynamics"].pop("space"), "does not describe a valid model: 'space'"),
        (lambda c: c["tokenizer"].update(kind="mine"), "unknown tokenizer kind 'mine'"),
        (lambda c: c["action_meanings"].pop(), "2 action_meanings, but the dynamics model has 3"),
        (lambda c: c["files"].update({"../x": {}}), "outside the bundle"),
        (lambda c: c["files"].pop("dynamics.safetensors"), "does not list dynamics.safetensors"),
    ],
)
def test_wrong_card(bundle, change, words):
    edit(bundle, change)
    broken(bundle, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.pop("to_logits.weight"),
            r"dynamics\.safetensors: tensor 'to_logits.weight'.*missing",
        ),
        (lambda t: t.update({"extra": torch.ones(1)}), "tensor 'extra' is not part of the model"),
        (
            lambda t: t.update({"to_logits.bias": torch.ones(3)}),
            r"'to_logits.bias' has shape \(3,\)",
        ),
        (lambda t: t["to_logits.bias"].fill_(float("nan")), "'to_logits.bias' holds NaN"),
        (lambda t: t["codes"].neg_(), "another tokenizer's tokens"),
    ],
)
def test_wrong_tensors(bundle, change, words):
    rewrite(bundle, "dynamics.safetensors", change)
    broken(bundle, words)


def test_wrong_starts(bundle):
    rewrite(bundle, "starts.safetensors", lambda t: t["actions"].fill_(3))
    broken(bundle, "actions are not all in 0..2")
    rewrite(bundle, "starts.safetensors", lambda t: t.update(frames=t["frames"].float()))
    broken(bundle, "starts.safetensors: expected frames uint8")


def test_a_pickle_is_not_read(bundle):
    torch.save({"codes": torch.ones(10**6)}, bundle / "dynamics.safetensors")
    record = file_record(bundle / "dynamics.safetensors")
    edit(bundle, lambda card: card["files"].update({"dynamics.safetensors": record}))
    broken(bundle, "not a safetensors file")


def test_rewards_may_be_large_but_not_infinite(tmp_path, model, starts):
    save_world(tmp_path / "Toy", replace(CARD, rewards=(1e6, -1.0)), model, starts)
    assert load_world(tmp_path / "Toy").card.rewards == (-1.0, 1e6)
    edit(tmp_path / "Toy", lambda card: card.update(rewards=[float("inf")]))
    broken(tmp_path / "Toy", "rewards must be finite, got .*inf")


def test_a_failed_save_leaves_nothing_behind(tmp_path, model, starts):
    with pytest.raises(ValueError, match="storage must be one of"):
        save_world(tmp_path / "Toy", CARD, model, starts, storage="int4")
    assert list(tmp_path.iterdir()) == []


def test_starts_that_do_not_fit_are_not_saved(tmp_path, model, starts):
    wrong = StartBank(frames=starts.frames, actions=torch.full((5, 2), 3))
    with pytest.raises(ValueError, match="actions are not all in 0..2"):
        save_world(tmp_path / "Toy", CARD, model, wrong)
    wrong = StartBank(frames=starts.frames[:, :, :8], actions=starts.actions)
    with pytest.raises(ValueError, match=r"frames of shape \(16, 16, 3\), got \(8, 16, 3\)"):
        save_world(tmp_path / "Toy", CARD, model, wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_world_is_replaced_only_when_asked(bundle, model, starts):
    with pytest.raises(FileExistsError):
        save_world(bundle, CARD, model, starts)
    save_world(bundle, replace(CARD, env_id="Other-v0"), model, starts, replace_existing=True)
    assert load_world(bundle).card.env_id == "Other-v0"
    assert [path.name for path in bundle.parent.iterdir()] == ["Toy"]


def test_scores_are_recorded_without_touching_the_weights(bundle):
    record_scores(bundle, {"psnr_10": 23.456})
    record_scores(bundle, {"delta_psnr": 1.5})
    card = load_world(bundle).card
    assert card.scores == {"psnr_10": 23.456, "delta_psnr": 1.5}
    assert "| psnr_10 | 23.46 |" in (bundle / "README.md").read_text()


def test_search_order_and_errors(tmp_path, bundle, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(bundle, first / "Toy")
    shutil.copytree(bundle, second / "Toy")
    shutil.copytree(bundle, second / "SuperToy")
    monkeypatch.setenv("GENIE_GYM_WORLDS", f"{first}{os.pathsep}{second}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    shutil.copytree(bundle, tmp_path / "data" / "genie-gym" / "worlds" / "Mine")
    assert find_world("Toy") == first / "Toy"
    assert find_world(bundle) == bundle
    assert find_world("Mine").parent.name == "worlds"
    assert {"Toy", "SuperToy", "Mine"} <= set(list_worlds())
    with pytest.raises(WorldNotFoundError, match="Did you mean SuperToy") as failure:
        find_world("SuprToy")
    assert str(second) in str(failure.value) and "genie-gym build ENV" in str(failure.value)


def test_worlds_commands(bundle, monkeypatch, capsys):
    monkeypatch.setenv("GENIE_GYM_WORLDS", str(bundle.parent))
    record_scores(bundle, {"psnr_10": 23.456})
    assert main(["list"]) == 0
    assert "Test/Toy-v0" in capsys.readouterr().out
    assert main(["show", "Toy"]) == 0
    out = capsys.readouterr().out
    assert "toy-3: NOOP, LEFT, RIGHT" in out and "23.46" in out
    assert main(["show", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Toy"
    assert main(["verify", "Toy"]) == 0
    (bundle / "dynamics.safetensors").write_bytes(b"")
    assert main(["verify", "Toy"]) == 1
    captured = capsys.readouterr()
    assert "dynamics.safetensors has 0 bytes" in captured.err
    assert "0 of 1 worlds are intact" in captured.out


def swap_names(file: Path) -> None:
    """Two tensors of one shape under each other's names: a file that any reader would accept."""
    tensors = load_file(file)
    pairs = combinations((name for name in tensors if tensors[name].ndim == 2), 2)
    first, other = next((a, b) for a, b in pairs if tensors[a].shape == tensors[b].shape)
    tensors[first], tensors[other] = tensors[other].clone(), tensors[first].clone()
    save_file(tensors, file)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda file: os.truncate(file, file.stat().st_size // 2), swap_names],
    ids=["deleted", "truncated", "names swapped"],
)
@pytest.mark.parametrize("name", ["tokenizer.safetensors", "dynamics.safetensors"])
def test_verify_names_the_damaged_file(bundle, capsys, damage, name):
    assert main(["verify", str(bundle)]) == 0
    damage(bundle / name)
    assert main(["verify", str(bundle)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("DAMAGED") and str(bundle / name) in told


def test_looking_for_worlds_loads_no_torch():
    code = "import sys, world_models.worlds.find as _, world_models.worlds.card as _; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_flipped_byte_of_the_card_makes_another_world(bundle):
    whole, card = (bundle / "world.json").read_bytes(), WorldCard.read(bundle)
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(whole), 60, replace=False):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(7))
        (bundle / "world.json").write_bytes(content)
        try:
            assert WorldCard.read(bundle) == card  # white space, say
        except BundleError:
            refused += 1
    assert refused > 45


def test_a_changed_window_is_refused_and_a_card_of_old_without_checksum_is_read(bundle):
    text = (bundle / "world.json").read_text()
    (bundle / "world.json").write_text(text.replace('"window": 8', '"window": 96'))
    broken(bundle, r"world\.json does not match its own checksum")
    (bundle / "world.json").write_text(text)
    edit(bundle, lambda card: None)
    assert load_world(bundle).card.name == "Toy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["dynamics"]["transformer"].update(num_layers=10**8),
            "dynamics.transformer.num_layers must be at most 256, got 100000000",
        ),
        (lambda c: c["sampling"].update(steps=10**9), "sampling.steps must be at most 1,000"),
        (lambda c: c["sampling"].update(temperature=float("nan")), "temperature must be at most"),
        (lambda c: c["tokenizer"].update(frame_size=-(10**7)), "tokenizer.frame_size must be at"),
        (
            lambda c: c["dynamics"]["transformer"].update(dim=8192),
            r"describes .* weights or more, but the bundle's files have .* bytes",
        ),
        (lambda c: c.update(tokenizer=[]), "tokenizer must be a dict"),
        (lambda c: c["files"].update({"starts": 3}), "starts needs bytes and sha256"),
        (lambda c: c.update(rewards=["much"]), "incomplete"),
    ],
)
def test_a_card_is_bounded_before_anything_is_built(bundle, change, words):
    edit(bundle, change)
    broken(bundle, words)


def test_a_card_of_deep_nesting_or_of_many_bytes_is_refused(bundle):
    (bundle / "world.json").write_text("[" * 100_000)
    broken(bundle, r"world\.json cannot be read")
    (bundle / "world.json").write_bytes(b" " * (1 << 21))
    broken(bundle, "the limit for a card is 1,048,576")

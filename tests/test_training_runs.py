"""From a dataset to a world and on from there: decoders alone, early errors."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.square_episodes import write_episodes
from tests.square_runs import (
    DYNAMICS,
    FIT,
    LOSS,
    TINY,
    TOKENIZER,
    every_step_logged,
    log,
    motion,
)
from world_models import presets
from world_models.episodes import DamagedShardError, EpisodeDataset
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.losses import DynamicsLossConfig
from world_models.model.token_space import NO_ACTION, SamplingConfig
from world_models.parts import build_tokenizer
from world_models.tokenizers.motion.displacement import DISPLACEMENTS, STILL
from world_models.tokenizers.motion.tokenizer import SAMPLING
from world_models.training.checkpoint import Checkpoints
from world_models.training.package import BundleOptions, SamplingOptions, build_bundle
from world_models.training.recipes import RECIPES, LatentActionRecipe
from world_models.training.run_folder import load_run, read_run
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_latent_action, train_tokenizer
from world_models.training.token_cache import fingerprint
from world_models.worlds.bundle import load_world, save_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def every_step_is_logged():
    with every_step_logged():
        yield


def test_runs_make_a_world_that_dreams(made):
    world = load_world(made.world)
    assert (world.card.env_id, world.card.action_set) == ("Test/Square-v0", "square-5")
    assert world.card.provenance["data"]["episodes"] == 24
    assert world.starts.frames.shape == (16, 4, 16, 16, 3)
    actions = torch.zeros(16, 8, dtype=torch.int64)
    assert world.model.rollout(world.starts.frames, actions).frames.shape == (16, 5, 16, 16, 3)
    best = Checkpoints(made.dynamics / "checkpoints").best()
    assert best is not None
    for name, value in load_run(made.dynamics, "dynamics").state_dict().items():
        assert torch.equal(world.model.dynamics.state_dict()[name], value)


def test_a_card_states_the_steps_of_the_checkpoint_that_is_packed(made, tmp_path):
    run = shutil.copytree(made.dynamics, tmp_path / "dynamics")
    state = run / "checkpoints" / "step-00000006" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "scores": {"token_loss": 99.0}}))
    options = BundleOptions(
        out=tmp_path / "Square", data=made.data, tokenizer=made.tokenizer, dynamics=run
    )
    card = load_world(build_bundle(options)).card
    assert card.provenance["dynamics"].startswith("3 steps")


def test_a_world_rounds_its_rewards_if_asked_and_so_does_one_tuned_from_it(made, tmp_path):
    options = BundleOptions(
        out=tmp_path / "Square",
        data=made.data,
        tokenizer=made.tokenizer,
        dynamics=made.dynamics,
        rounded_rewards=True,
    )
    world = load_world(build_bundle(options))
    known = torch.tensor(world.card.rewards)
    assert len(known) > 1
    state = world.model.start(world.starts.frames[:2], world.starts.actions[:2])
    _, prediction = world.model.step(state, torch.tensor([0, 1]))
    assert torch.isin(prediction.reward, known).all()
    assert not load_world(made.world).card.rounded_rewards

    run = DynamicsOptions(data=made.data, out=tmp_path / "d", from_world=str(options.out))
    train_dynamics(DYNAMICS, replace(run, outcome_only=True))
    tuned = replace(options, tokenizer=options.out, dynamics=run.out, rounded_rewards=None)
    tuned = replace(tuned, out=tmp_path / "Next")
    assert load_world(build_bundle(tuned)).card.rounded_rewards


def test_a_run_leaves_losses_codebook_use_and_strips(made):
    steps = [line["step"] for line in log(made.tokenizer, "train")]
    assert steps == [1, 2, 3, 4, 5, 6]
    for line in log(made.tokenizer, "val"):
        assert 0 < line["codes_used"] <= 1 and line["loss"] > 0
    assert {"perplexity", "reward_loss"} <= log(made.dynamics, "val")[0].keys()
    for run in (made.tokenizer, made.dynamics):
        assert len(list((run / "samples").glob("*.png"))) == 2
        assert list((run / "tensorboard").iterdir())
    record = read_run(made.dynamics)
    assert record.built_on["tokenizer"] == fingerprint(load_run(made.tokenizer, "tokenizer"))


def test_fine_tuning_a_tokenizer_changes_its_decoder_and_no_token(made, tmp_path):
    options = DataOptions(data=made.data, out=tmp_path / "t", from_world=str(made.world))
    train_tokenizer(TOKENIZER, options)
    tuned = load_run(tmp_path / "t", "tokenizer")
    base = load_world(made.world).model.tokenizer
    frames = torch.from_numpy(EpisodeDataset(made.data).frames(0, 0, 8))[None]
    assert torch.equal(tuned.encode(frames), base.encode(frames))
    assert not torch.equal(tuned.to_patches.weight, base.to_patches.weight)
    assert fingerprint(tuned) == fingerprint(base)

    options = DynamicsOptions(
        data=made.data,
        out=tmp_path / "d",
        from_world=str(made.world),
        tokenizer=str(tmp_path / "t"),
    )
    packs = sorted((made.data / "tokens").rglob("*.safetensors"))
    size = replace(DYNAMICS.model.transformer, num_layers=1)
    asked = DynamicsLossConfig(mask_steps=1, context_noise=0.25)
    model = replace(DYNAMICS.model, transformer=size)
    train_dynamics(replace(DYNAMICS, model=model, loss=asked), options)
    assert load_run(tmp_path / "d", "dynamics").config == DYNAMICS.model  # the world's
    assert DynamicsLossConfig(**read_run(tmp_path / "d").loss) == asked  # the recipe's
    assert sorted((made.data / "tokens").rglob("*.safetensors")) == packs
    first, scratch = log(tmp_path / "d", "train")[0], log(made.dynamics, "train")[0]
    assert first["loss"] != scratch["loss"]  # it went on from the world's weights
    build_bundle(
        BundleOptions(
            out=tmp_path / "Square2",
            data=made.data,
            tokenizer=tmp_path / "t",
            dynamics=tmp_path / "d",
            sampling=SamplingOptions(threshold=0.9),
        )
    )
    tuned_world = load_world(tmp_path / "Square2")
    assert tuned_world.card.storage == "bfloat16"
    assert tuned_world.model.sampling == SamplingConfig(threshold=0.9)  # else as usual


def test_the_outcome_head_alone_can_be_fine_tuned(made, tmp_path):
    options = DynamicsOptions(data=made.data, out=tmp_path / "d", outcome_only=True)
    with pytest.raises(ValueError, match="--from WORLD"):
        train_dynamics(DYNAMICS, replace(options, tokenizer=str(made.tokenizer)))
    train_dynamics(DYNAMICS, replace(options, from_world=str(made.world)))
    before = load_world(made.world).model.dynamics.state_dict()
    changed = {
        name.partition(".")[0]
        for name, value in load_run(tmp_path / "d", "dynamics").state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"outcome"}


def test_a_world_samples_as_suits_its_tokens_unless_told_otherwise():
    for config, usual in ((TINY, SamplingConfig()), (presets.atari(), SAMPLING)):
        built = presets.build(config)
        world = WorldModel(built.tokenizer, built.dynamics)
        assert world.sampling == usual
        assert SamplingOptions().applied(usual) == usual
        told = SamplingOptions(steps=3, temperature=0.0).applied(usual)
        assert told == replace(usual, steps=3, temperature=0.0)


def test_latent_actions_take_the_place_of_the_true_ones(made, tmp_path):
    model = replace(TINY.latent_action, num_actions=3)
    recipe = LatentActionRecipe(model=model, loss=LOSS, fit=FIT, frames=8)
    train_latent_action(recipe, DataOptions(data=made.data, out=tmp_path / "lam"))
    options = DynamicsOptions(
        data=made.data,
        out=tmp_path / "d",
        tokenizer=str(made.tokenizer),
        latent_action=str(tmp_path / "lam"),
    )
    with pytest.raises(ValueError, match="3 latent actions.*--model.num-actions 3"):
        train_dynamics(DYNAMICS, options)
    dynamics = replace(DYNAMICS.model, num_actions=3, action_input="add")
    train_dynamics(replace(DYNAMICS, model=dynamics), options)
    build_bundle(
        BundleOptions(
            out=tmp_path / "Latent",
            data=made.data,
            tokenizer=made.tokenizer,
            dynamics=tmp_path / "d",
            latent_action=tmp_path / "lam",
        )
    )
    world = load_world(tmp_path / "Latent")
    assert world.card.action_meanings == ("LATENT-0", "LATENT-1", "LATENT-2")
    assert world.model.latent_action is not None


def test_errors_come_early_and_say_what_to_type(made, tmp_path):
    options = DataOptions(data=made.data, out=tmp_path / "out")
    dynamics = DynamicsOptions(data=made.data, out=tmp_path / "out", tokenizer=str(made.tokenizer))
    other_size = replace(TOKENIZER, model=replace(TINY.tokenizer, frame_size=32))
    with pytest.raises(ValueError, match=r"frames \(16, 16, 3\).*--model.frame-size 16"):
        train_tokenizer(other_size, options)
    more = replace(DYNAMICS, model=replace(TINY.dynamics, num_actions=7))
    with pytest.raises(ValueError, match="5 actions.*takes 7.*--model.num-actions 5"):
        train_dynamics(more, dynamics)
    with pytest.raises(ValueError, match="has 40 frames"):
        train_tokenizer(replace(TOKENIZER, frames=40), options)
    with pytest.raises(ValueError, match="has 40 frames"):
        train_dynamics(replace(DYNAMICS, frames=40), dynamics)
    with pytest.raises(ValueError, match="matches --env-id Nope-v0"):
        train_tokenizer(TOKENIZER, replace(options, env_id="Nope-v0"))
    with pytest.raises(ValueError, match="--tokenizer RUN"):
        train_dynamics(DYNAMICS, replace(dynamics, tokenizer=None))
    with pytest.raises(ValueError, match="is a dynamics run, expected a tokenizer run"):
        train_dynamics(DYNAMICS, replace(dynamics, tokenizer=str(made.dynamics)))
    with pytest.raises(ValueError, match=r"self_forcing must lie in \[0, 1\], got 2"):
        replace(DYNAMICS, self_forcing=2)
    assert not (tmp_path / "out").exists()
    shutil.copytree(made.tokenizer, tmp_path / "begun")
    wider = replace(TOKENIZER, model=replace(TINY.tokenizer, num_codes=64))
    with pytest.raises(ValueError, match="model.num_codes 32, not 64.*another --out"):
        train_tokenizer(wider, replace(options, out=tmp_path / "begun"))
    data = shutil.copytree(made.data, tmp_path / "data", ignore=shutil.ignore_patterns("tokens"))
    shutil.copytree(made.dynamics, tmp_path / "started")
    other = replace(DYNAMICS, loss=DynamicsLossConfig(mask_steps=1))
    with pytest.raises(ValueError, match="loss.mask_steps .* not 1.*another --out"):
        train_dynamics(other, replace(dynamics, data=data, out=tmp_path / "started"))
    assert not (data / "tokens").exists(), "encoded before the settings were checked"


def test_a_world_is_only_fine_tuned_with_its_own_tokens_and_actions(made, tmp_path):
    world = load_world(made.world)
    other = presets.build(TINY)
    assert world.starts is not None
    save_world(tmp_path / "Other", world.card, other, world.starts)
    options = DynamicsOptions(
        data=made.data,
        out=tmp_path / "out",
        from_world=str(tmp_path / "Other"),
        tokenizer=str(made.tokenizer),
    )
    with pytest.raises(ValueError, match="produces other tokens than the tokenizer of"):
        train_dynamics(DYNAMICS, options)
    card = replace(world.card, action_meanings=("A", "B", "C", "D", "E"), action_set="letters")
    save_world(tmp_path / "Letters", card, world.model, world.starts)
    with pytest.raises(ValueError, match="collect episodes with action_set=letters"):
        train_dynamics(DYNAMICS, replace(options, from_world=str(tmp_path / "Letters")))


def test_damaged_data_is_skipped_all_the_way_to_a_world(made, tmp_path):
    data = write_episodes(tmp_path / "data", max_shard_bytes=1)  # a shard for each episode
    frames, whole = sorted((data / "shards").iterdir())[4:6]
    for shard, places in ((frames, [len(frames.read_bytes()) // 2]), (whole, range(100, 2000))):
        content = bytearray(shard.read_bytes())
        for place in places:
            content[place] ^= 255
        shard.write_bytes(content)
    with pytest.warns(UserWarning, match="skipped a damaged episode"):
        options = DynamicsOptions(
            data=data, out=tmp_path / "d", tokenizer=str(made.tokenizer), on_damage="skip"
        )
        train_dynamics(DYNAMICS, options)
        bundle = BundleOptions(
            out=tmp_path / "Whole",
            data=data,
            tokenizer=made.tokenizer,
            dynamics=tmp_path / "d",
            on_damage="skip",
        )
        assert load_world(build_bundle(bundle)).starts is not None
    with pytest.raises(DamagedShardError, match="shards"):
        train_dynamics(DYNAMICS, replace(options, out=tmp_path / "e", on_damage="refuse"))


def test_self_forcing_fine_tunes_a_world_which_is_bundled_with_its_tokenizer(made, tmp_path):
    first = load_world(made.world)
    earlier = {"fingerprint": "f", "seeds": [77], "policies": ["expert"]}
    known = {"tokenizer": "6 steps", "data": earlier | {"episodes": 5, "frames": 100}}
    card = replace(first.card, name="First", provenance=known)
    torch.manual_seed(0)
    assert first.starts is not None
    save_world(tmp_path / "First", card, presets.build(motion()).eval(), first.starts)
    recipe = replace(DYNAMICS, corruption=0.1, self_forcing=0.5)
    own = DynamicsOptions(
        data=made.data, out=tmp_path / "d", tokenizer=str(tmp_path / "First"), from_world=None
    )
    with pytest.raises(ValueError, match="set --self-forcing to 0, or fine-tune such"):
        train_dynamics(recipe, own)
    train_dynamics(recipe, replace(own, tokenizer=None, from_world=str(tmp_path / "First")))
    options = BundleOptions(
        out=tmp_path / "Second",
        data=made.data,
        tokenizer=tmp_path / "First",
        dynamics=own.out,
        storage="float32",
    )
    second = load_world(build_bundle(options))
    assert second.card.provenance["tokenizer"] == "6 steps"
    assert second.card.provenance["dynamics"].endswith(", from First")
    data = second.card.provenance["data"]
    assert data["seeds"] == [77, *first.card.provenance["data"]["seeds"]]
    assert data["policies"] == ["expert", *first.card.provenance["data"]["policies"]]
    assert data["frames"] == 100 + first.card.provenance["data"]["frames"]
    assert fingerprint(second.model.tokenizer) == fingerprint(
        load_world(tmp_path / "First").model.tokenizer
    )


def test_a_bundle_refuses_parts_that_do_not_belong_together(made, tmp_path):
    seeded = replace(TOKENIZER, fit=replace(FIT, seed=1))
    train_tokenizer(seeded, DataOptions(data=made.data, out=tmp_path / "t"))
    options = BundleOptions(
        out=tmp_path / "World", data=made.data, tokenizer=tmp_path / "t", dynamics=made.dynamics
    )
    with pytest.raises(ValueError, match="was trained with a tokenizer"):
        build_bundle(options)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_together(name):
    recipe = RECIPES[name]()
    with torch.device("meta"):
        tokenizer = build_tokenizer(recipe.tokenizer.model)
        dynamics = Dynamics(recipe.dynamics.model, tokenizer.space, tokenizer.codes())
    assert dynamics.codes.shape == (tokenizer.space.num_codes, tokenizer.space.code_dim)
    assert recipe.latent_action.model.frame_size == tokenizer.frame_size
    assert recipe.tokenizer.frames >= 2 and NO_ACTION < 0
    if name not in ("coinrun-tiny", "paper"):
        assert tokenizer.space.neutral == STILL and tokenizer.space.patch
        assert tokenizer.space.group_start == (None if name == "atari" else DISPLACEMENTS)

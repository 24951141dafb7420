"""The CoinRun study, as small as it can be: every step is made, none is made twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.dreams.measure import Amounts
from benchmarks.studies import coinrun_study
from benchmarks.studies.coinrun_recipes import RECIPES, StudyRecipe
from benchmarks.studies.coinrun_study import SETS, WORLDS, Study, rows
from world_models import presets
from world_models.model.dynamics import Dynamics
from world_models.model.latent_action import LatentActionModel
from world_models.model.losses import DynamicsLossConfig
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.parts import build_tokenizer
from world_models.training.config import FitConfig
from world_models.training.recipes import (
    DynamicsRecipe,
    LatentActionRecipe,
    TokenizerRecipe,
    WorldRecipe,
)
from world_models.worlds.card import WorldCard


def smallest() -> StudyRecipe:
    world = presets.tiny(num_actions=7, frame_size=64)
    tokenizer = replace(world.tokenizer, patch=16)
    latent = replace(world.latent_action, patch=16)
    fit = FitConfig(steps=4, batch_size=2, save_every=4, precision="fp32")
    pixels = ReconstructionLossConfig()
    base = RECIPES["tiny"]()
    return replace(
        base,
        agent=replace(
            base.agent, steps=64, eval_every=64, num_envs=4, rollout=16, batch_size=32, epochs=1
        ),
        world=WorldRecipe(
            tokenizer=TokenizerRecipe(model=tokenizer, loss=pixels, fit=fit, frames=4),
            latent_action=LatentActionRecipe(model=latent, loss=pixels, fit=fit, frames=4),
            dynamics=DynamicsRecipe(
                model=world.dynamics, loss=DynamicsLossConfig(), fit=fit, frames=4
            ),
        ),
        random_episodes=3,
        agent_episodes=3,
        test_episodes=3,
        max_steps=24,
        amounts=Amounts(windows=2, steps=4, long_frames=0),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, dict[str, dict[str, float]]]:
    out = tmp_path_factory.mktemp("study")
    return out, Study(smallest(), out, "cpu").run()


def test_every_world_is_measured_on_both_sets(study):
    _, results = study
    assert results.keys() == {f"{world}, {name}" for world in WORLDS for name in SETS}
    for key, figures in results.items():
        assert 0 < figures["psnr"] < 60 and "psnr_copy" in figures
        assert ("psnr_lam" in figures) == ("-G" not in key)
    table = rows(results)
    assert len(table) == 14 and all(row["PSNR"] > 0 for row in table)
    assert results["GenieRedux-G, Basic"]["psnr"] != results["GenieRedux-G, Diverse"]["psnr"]


def test_tuned_worlds_come_from_base_worlds(study):
    out, _ = study
    tuned = WorldCard.read(out / "worlds" / "GenieRedux-G-TA")
    base = WorldCard.read(out / "worlds" / "GenieRedux-G")
    assert tuned.provenance["dynamics"].endswith(", from GenieRedux-G")
    assert tuned.provenance["data"]["path"] == "agent"
    assert base.provenance["data"]["policies"] == ["random"]
    assert WorldCard.read(out / "worlds" / "GenieRedux-TA").action_meanings[0] == "LATENT-0"


def test_run_again_it_makes_nothing_again(study, monkeypatch):
    out, results = study

    def never(*_: object) -> None:
        raise AssertionError("made a second time")

    monkeypatch.setattr(Study, "_measure", never)
    monkeypatch.setattr(coinrun_study, "train_agent", never)
    monkeypatch.setattr(coinrun_study, "build_bundle", never)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert Study(smallest(), out, "cpu").run() == results
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before


def test_the_paper_recipe_has_the_published_sizes():
    paper = RECIPES["paper"]()
    assert (paper.random_episodes, paper.agent_episodes) == (88_000, 10_000)
    assert paper.agent.steps == 25_000_000
    with torch.device("meta"):
        tokenizer = build_tokenizer(paper.world.tokenizer.model)
        dynamics = Dynamics(paper.world.dynamics.model, tokenizer.space)
        latent = LatentActionModel(paper.world.latent_action.model)
    sizes = [sum(p.numel() for p in x.parameters()) / 1e6 for x in (tokenizer, dynamics, latent)]
    assert sizes == pytest.approx([101.6, 80.2, 168.7], rel=0.02)
    assert paper.world.dynamics.model.num_actions == 7
    assert paper.world.dynamics.model.objective == "paper"

"""The ablation changes one thing at a time, at equal steps and at equal time, and goes on."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from benchmarks.studies.ablation import BUDGETS, MEASURES, TITLES, Ablation, Size, arms, table
from world_models.model.dynamics import Dynamics
from world_models.model.losses import DynamicsLossConfig
from world_models.parts import build_tokenizer
from world_models.training.recipes import RECIPES, WorldRecipe

SECONDS = {
    "base": 1.0,
    "token_input": 1.1,
    "tdce": 1.25,
    "two_stream": 2.0,
    "two_stream_alone": 1.9,
    "whole_past": 2.0,
    "light_outcome": 2.0,
}


def small_recipe() -> WorldRecipe:
    """The recipe of the ablation, smaller."""
    recipe = RECIPES["coinrun-tiny"]()
    small = {"dim": 32, "num_layers": 1, "num_heads": 2, "head_dim": 16}
    tokenizer, dynamics = (
        replace(part.model, transformer=replace(part.model.transformer, **small))
        for part in (recipe.tokenizer, recipe.dynamics)
    )
    fit = replace(recipe.dynamics.fit, batch_size=2, warmup_steps=1)
    return replace(
        recipe,
        tokenizer=replace(
            recipe.tokenizer, model=replace(tokenizer, num_codes=32), fit=fit, frames=4
        ),
        dynamics=replace(recipe.dynamics, model=dynamics, fit=fit, frames=4),
    )


def test_each_arm_of_the_ladder_differs_from_the_one_before_in_one_thing():
    found = arms(RECIPES["coinrun-tiny"]().dynamics)
    assert list(found) == list(TITLES)
    base, token_input, tdce, two_stream, alone, whole, light = (
        asdict(arm.model) | asdict(arm.loss) for arm in found.values()
    )

    def changed(one: dict, other: dict) -> dict:
        return {key: other[key] for key in one if one[key] != other[key]}

    assert changed(base, token_input) == {"token_input": True}
    assert changed(token_input, tdce) == {"TDCE_WEIGHT": 1.0}
    assert changed(tdce, two_stream) == {"objective": "two_stream"}
    assert changed(base, alone) == {"objective": "two_stream"}
    assert changed(two_stream, whole) == {"LEARNED_SHARE": 1.0}
    assert changed(two_stream, light) == {"OUTCOME_WEIGHT": 0.1}
    assert (base["objective"], base["token_input"], base["TDCE_WEIGHT"]) == ("paper", False, 0)


def test_ours_is_what_the_recipe_trains_and_what_is_varied_reaches_the_loss():
    recipe = RECIPES["coinrun-tiny"]().dynamics
    found = arms(recipe)
    ours, common = found["two_stream"], asdict(recipe.loss)
    assert ours.model == recipe.model
    assert {key: value for key, value in asdict(ours.loss).items() if key in common} == common
    for name in ("TDCE_WEIGHT", "OUTCOME_WEIGHT", "LEARNED_SHARE"):
        assert getattr(ours.loss, name) == getattr(recipe.loss, name)
    tokenizer = build_tokenizer(RECIPES["coinrun-tiny"]().tokenizer.model)
    torch.manual_seed(0)
    codes = torch.randn(tokenizer.space.num_codes, tokenizer.space.code_dim)
    dynamics = Dynamics(recipe.model, tokenizer.space, codes)
    batch = {
        "tokens": torch.randint(tokenizer.space.num_codes, (1, 3, tokenizer.space.num_tokens)),
        "actions": torch.zeros(1, 2, dtype=torch.int64),
        "rewards": torch.ones(1, 2),
        "terminated": torch.ones(1, 2, dtype=torch.bool),
        "seeds": torch.zeros(1, dtype=torch.int64),
    }

    def parts(loss: DynamicsLossConfig) -> tuple[float, float]:
        """The loss of tokens, and that of all."""
        _, metrics = dynamics.loss(batch, loss)
        return float(metrics["token_loss"]), float(metrics["loss"])

    tokens, total = parts(recipe.loss)
    assert parts(ours.loss) == (tokens, total)
    light_tokens, light_total = parts(found["light_outcome"].loss)
    assert light_tokens == tokens and light_total - tokens == pytest.approx(
        0.1 * (total - tokens), rel=1e-3
    )
    _, metrics = dynamics.loss(batch, replace(found["base"].loss, changed_weight=0.0))
    assert float(metrics["token_loss"]) == pytest.approx(float(metrics["cross_entropy"]), rel=1e-5)
    assert parts(replace(ours.loss, changed_weight=0.0))[0] > 1.1 * float(metrics["token_loss"])


def test_arms_are_evaluated_at_equal_steps_and_at_equal_time_and_none_is_trained_twice(
    tmp_path, monkeypatch
):
    size = Size(episodes=24, tokenizer_steps=2, steps=2, timed_steps=1, windows=2)
    (tmp_path / "seconds_per_step.json").write_text(json.dumps(SECONDS))
    ablation = Ablation(small_recipe(), size, tmp_path)
    assert [ablation.steps(arm, "steps") for arm in SECONDS] == [2] * 7
    assert [ablation.steps(arm, "time") for arm in SECONDS] == [4, 4, 3, 2, 2, 2, 2]
    first = {budget: ablation.scores("base", 0, budget) for budget in BUDGETS}
    kept = sorted(path.name for path in (tmp_path / "base-0" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000004"]
    for scores in first.values():
        assert MEASURES.keys() <= scores.keys()
        assert 0 < scores["psnr_10"] < 60 and 0 < scores["psnr_10_copy"] < 60

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("benchmarks.studies.ablation.train_dynamics", refuse)
    again = Ablation(small_recipe(), size, tmp_path)
    assert {budget: again.scores("base", 0, budget) for budget in BUDGETS} == first


def test_seconds_per_step_are_measured_once(tmp_path, monkeypatch):
    size = Size(episodes=24, tokenizer_steps=1, steps=1, timed_steps=1, windows=1)
    ablation = Ablation(small_recipe(), size, tmp_path)
    turns = iter([3.0, 30.0] * 2 + [1.0, 2.0])
    ablation.arms = {name: ablation.arms[name] for name in ("base", "two_stream")}
    monkeypatch.setattr(Ablation, "_time_step", lambda self, arm: next(turns))
    assert ablation.seconds_per_step == {"base": 3.0, "two_stream": 30.0}  # medians of turns
    again = Ablation(small_recipe(), size, tmp_path)
    assert again.seconds_per_step == ablation.seconds_per_step


def test_a_step_is_timed_by_taking_steps(tmp_path):
    size = Size(episodes=24, tokenizer_steps=1, steps=1, timed_steps=1, windows=1)
    ablation = Ablation(small_recipe(), size, tmp_path)
    torch.manual_seed(0)
    assert 0 < ablation._time_step(ablation.arms["two_stream"]) < 10


def test_the_table_shows_means_and_half_the_spread():
    figures = {f"{arm}_{budget}": 100.0 for arm in TITLES for budget in BUDGETS}
    for arm in TITLES:
        for budget in BUDGETS:
            for measure in MEASURES:
                figures[f"{arm}_{budget}_{measure}_seed0"] = 10.0
                figures[f"{arm}_{budget}_{measure}_seed1"] = 11.0
    for name in ("psnr_10", "changed_psnr_10"):
        figures |= {f"{name}_copy": 9.0, f"{name}_ceiling": 20.0}
    rows = table(figures)
    assert len(rows) == 2 * len(TITLES) + 2
    assert rows[0][MEASURES["psnr_10"]] == "10.50 ± 0.50"
    assert [row[MEASURES["psnr_10"]] for row in rows[-2:]] == ["9.00", "20.00"]

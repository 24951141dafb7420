"""The comparison of learning a game from many games or from nothing, on the smallest scale."""

from __future__ import annotations

import json
import math
import sys

import pytest

from agents.loop.evaluate import WorldEvaluationConfig
from benchmarks.studies import many_games
from benchmarks.studies.many_games import Comparison, Sizes
from world_models.worlds.bundle import load_world

SIZES = Sizes(
    pool_episodes=1,
    episodes=2,
    test_episodes=1,
    max_steps=24,
    pretraining=(2, 2),
    tuning=(2, 2),
    evaluation=WorldEvaluationConfig(windows=2, prompt=1, steps=4),
)


def test_the_tested_games_are_not_learned_before():
    comparison = Comparison(games=("Hero-Atari2600",))
    pool = comparison.pool_games()
    assert len(pool) > 20 and "Hero-Atari2600" not in pool
    assert "Airstriker-Genesis" not in pool  # another platform
    with pytest.raises(ValueError, match="needs an untested game"):
        Comparison(games=("Hero-Atari2600",), pool=("Hero-Atari2600",))


def test_both_arms_learn_and_are_evaluated_and_nothing_is_done_twice(tmp_path, monkeypatch):
    comparison = Comparison(
        out=tmp_path,
        games=("Pong-Atari2600",),
        pool=("Boxing-Atari2600",),
        seeds=(0,),
        sizes=SIZES,
        json=tmp_path / "figures.json",
    )
    monkeypatch.setattr(many_games, "parse", lambda *args, **kwargs: comparison)
    monkeypatch.setattr(sys, "argv", ["many_games"])
    many_games.main()
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert all(math.isfinite(figures[f"pong_{arm}_psnr"]) for arm in ("pretrained", "scratch"))
    assert figures["pong_pretrained_psnr_copy"] == figures["pong_scratch_psnr_copy"]
    cards = {
        arm: load_world(tmp_path / "Pong-Atari2600" / f"{arm}-0" / "world").card
        for arm in ("pretrained", "scratch")
    }
    assert "from" in cards["pretrained"].provenance["dynamics"]
    assert "from" not in cards["scratch"].provenance["dynamics"]
    done = (tmp_path / "manifest.jsonl").read_text()
    many_games.main()
    assert (tmp_path / "manifest.jsonl").read_text() == done

"""The exploration benchmark, small: equal budgets, kept runs, figures that follow from them."""

import json
import xml.etree.ElementTree

import numpy as np
import pytest
import torch

from benchmarks.studies import exploration
from benchmarks.studies.exploration import EXPLORERS, NUM_POINTS, Budget, all_runs, summary
from benchmarks.studies.exploration_picture import picture


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def budget(**changes) -> Budget:
    small = {"steps": 512, "num_envs": 2, "max_steps": 30}
    return Budget(env="Procgen/CoinRun-v0", world="CoinRun", **{**small, **changes})


def test_all_explorers_have_equal_budgets_and_kept_runs_are_not_repeated(
    coinrun_world, tmp_path, monkeypatch
):
    runs = all_runs(budget(), list(EXPLORERS), 1, tmp_path)
    for (one,) in runs.values():
        steps, places, *_ = zip(*one["curve"][:NUM_POINTS], strict=True)
        assert steps[-1] == 512 and list(steps) == sorted(steps)
        assert list(places) == sorted(places) and places[0] < places[-1]
    assert len({json.dumps(one["curve"]) for (one,) in runs.values()}) == len(EXPLORERS)
    monkeypatch.setattr(exploration, "run", None)
    assert all_runs(budget(), list(EXPLORERS), 1, tmp_path) == runs
    with pytest.raises(ValueError, match="another --out"):
        all_runs(budget(steps=1024), list(EXPLORERS), 1, tmp_path)
    svg = xml.etree.ElementTree.fromstring(picture(runs, NUM_POINTS))
    assert len([x for x in svg.iter() if "line " in x.get("class", "")]) == len(EXPLORERS)


def test_a_seed_decides_a_run(coinrun_world):
    first, again = (exploration.run(budget(), "sticky", 3)["curve"] for _ in range(2))
    assert first == again != exploration.run(budget(), "sticky", 4)["curve"]


def test_figures_follow_from_the_curves():
    def run_to(places: int) -> dict:
        points = np.linspace(0, places, NUM_POINTS).round().astype(int).tolist()
        return {"curve": [(k, seen, 0.0, 0) for k, seen in enumerate(points)]}

    runs = {"random": [run_to(n) for n in (10, 20, 30)],
            "autoexplore": [run_to(n) for n in (40, 15, 60)]}  # fmt: skip
    figures, rows = summary(runs)
    assert (figures["random_places"], figures["random_places_sd"]) == (20, 10)
    assert figures["autoexplore_places_lowest"] == 15
    assert figures["autoexplore_beats_random"] == pytest.approx(2 / 3)
    assert figures["autoexplore_over_random"] == pytest.approx(115 / 60)
    assert [row["seeds"] for row in rows] == [3, 3]

"""Calls are counted by the file they are in, and only those of the project."""

import torch

from benchmarks.studies.step_calls import rows, trace, trace_step
from world_models.noise import uniform
from world_models.pixels import check_patch


def test_each_call_of_the_project_counts_once_and_no_other_does():
    def work() -> None:
        for patch in (2, 4, 8):
            check_patch(64, patch)
        sorted("cab", key=str.lower)

    assert trace(work).calls == {"world_models/pixels.py": 3}


def test_calls_that_calls_make_are_counted_too():
    seeds = torch.arange(2)
    calls = trace(lambda: uniform(seeds, seeds, 0, 4)).calls
    assert calls.keys() == {"world_models/noise.py"} and calls.total() > 1


def test_a_dreamed_step_goes_through_six_files_to_the_transformer_in_few_calls():
    found = trace_step()
    assert found.calls == trace_step().calls
    assert found.spine == [
        "genie_gym/envs/genie.py",
        "world_models/inference/world.py",
        "world_models/inference/sampling.py",
        "world_models/model/objectives/two_stream.py",
        "world_models/model/dynamics.py",
        "world_models/model/transformer.py",
    ]
    assert found.calls.total() <= 817 // 2, "half of what a step took before it was restructured"
    assert [row["spine"] for row in rows(found) if row.get("spine")] != []

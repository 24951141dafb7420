"""Files of the official size, with random weights, are imported in time and memory, and dream."""

import pytest
import torch

from benchmarks.studies import official_world as study
from world_models.inference.parallel import one_thread

NUMBERS = {  # of all tensors of a file, the unused ones too
    "tokenizer": 101_679_945,
    "guided-2024": 80_764_966,
    "guided-2025": 80_240_338,
    "latent": 81_058_056 + 168_724_240,
}
SECONDS, GIB = 30, 4


@pytest.mark.parametrize("kind", NUMBERS)
def test_the_shapes_are_those_of_the_published_models(kind):
    found = sum(torch.Size(shape).numel() for _, _, shape in study.shapes(kind))
    assert found == NUMBERS[kind]


def test_a_world_of_the_published_size_is_imported_and_dreams(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for busy cores count as work
    tokenizer = study.write_checkpoint(tmp_path / "tokenizer.pt", "tokenizer")
    dynamics = study.write_checkpoint(tmp_path / "dynamics.pt", "guided-2024")
    starts = study.write_frames(tmp_path / "frames")
    out = tmp_path / "CoinRunOfficial"
    found = study.import_in_a_process(tokenizer, dynamics, starts, out)
    with one_thread():
        speeds = {
            passes: study.steps_per_second(out, passes, num_steps=1, dtype="auto")
            for passes in (1, 25)
        }
    for file in (tokenizer, dynamics):  # pytest keeps the folder
        file.unlink()
    with capsys.disabled():
        print(f"\nimported in {found['seconds']:.1f} s and {found['gib']:.2f} GiB")
        for passes, speed in speeds.items():
            print(f"{passes} passes: {speed:.2f} env steps/s")
    assert found["cpu_seconds"] < SECONDS and found["gib"] < GIB
    assert min(speeds.values()) > 0.02

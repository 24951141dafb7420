"""The loop: stopped or split over micro-batches, it computes the same."""

import json
import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.square_runs import every_step_logged
from tests.training_toy import CONFIG, Actions, Denoiser
from world_models.training.checkpoint import Checkpoints
from world_models.training.config import FitConfig
from world_models.training.ema import Ema
from world_models.training.fit import TrainingDivergedError, fit, launch
from world_models.weights import WeightsError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def every_step_is_logged():
    with every_step_logged():
        yield


def losses(out: Path) -> list[tuple[int, float]]:
    """What a run logged for its training steps."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["group"] == "train"]


def train(out: Path, config: FitConfig = CONFIG, batch_size: int = 4, **options):
    return fit(Denoiser(), Actions(batch_size), config, out, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("uninterrupted")
    assert train(out).finished
    return out


class Interrupted(Actions):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def test_sigterm_stops_cleanly_after_the_step_and_the_next_run_goes_on(uninterrupted, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    result = fit(Denoiser(), Interrupted(), CONFIG, tmp_path)
    assert (result.finished, result.step) == (False, 14)
    assert result.checkpoint.name == "step-00000014"
    assert signal.getsignal(signal.SIGTERM) is before
    train(tmp_path)
    assert losses(tmp_path) == losses(uninterrupted)


class Diverging(Denoiser):
    def loss(self, batch):
        loss, metrics = super().loss(batch)
        self.calls = getattr(self, "calls", 0) + 1
        return loss * (math.nan if self.calls == 15 else 1), metrics


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingDivergedError, match="step 15.*step-00000010.*lower learning rate"):
        fit(Diverging(), Actions(), CONFIG, tmp_path)
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None and newest.name == "step-00000010"
    assert losses(tmp_path)[-1][0] == 14


def test_the_toy_is_learned_and_the_best_checkpoint_survives(tmp_path, monkeypatch):
    monkeypatch.setattr("world_models.training.fit.KEPT_CHECKPOINTS", 1)
    scores = iter([0.5, 0.1, 0.4, 0.3])
    result = train(tmp_path, evaluate=lambda model: {"loss": next(scores)})
    curve = losses(tmp_path)
    assert curve[-1][1] < curve[0][1] / 2
    kept = [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()]
    assert kept == ["step-00000020", "step-00000040"]
    assert result.checkpoint.name == "step-00000040"
    assert Checkpoints(tmp_path / "checkpoints").best().name == "step-00000020"


def test_a_kill_while_an_old_checkpoint_is_deleted_does_no_harm(tmp_path, monkeypatch):
    def killed(folder):
        (folder / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("world_models.files.shutil.rmtree", killed)
        train(tmp_path)
    train(tmp_path)
    assert len(list((tmp_path / "checkpoints").iterdir())) == len(
        Checkpoints(tmp_path / "checkpoints").paths()
    )


def test_the_tokens_decide_which_checkpoint_is_best(tmp_path):
    scores = iter([{"loss": 0.5, "token_loss": 0.4}, {"loss": 9.0, "token_loss": 0.3}])
    train(tmp_path, replace(CONFIG, save_every=20), evaluate=lambda model: next(scores))
    assert Checkpoints(tmp_path / "checkpoints").best().name == "step-00000040"


def test_resuming_with_other_data_is_refused(tmp_path):
    train(tmp_path, replace(CONFIG, steps=10))
    with pytest.raises(ValueError, match="total_batch_size"):
        train(tmp_path, batch_size=6)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, file):
    train(tmp_path, replace(CONFIG, steps=10))
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    content = (newest / file).read_bytes()
    (newest / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=f"step-00000010.*{file}.*Delete that directory"):
        train(tmp_path)


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(tmp_path):
    seen = []

    class Spy(Denoiser):
        def loss(self, batch):
            loss, metrics = super().loss(batch)
            seen.append(self.layers(torch.ones(1, 5)).dtype)
            return loss, metrics

    model = Spy()
    fit(model, Actions(), replace(CONFIG, steps=2, precision="bf16"), tmp_path)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_learning_rate_warms_up_falls_as_a_cosine_and_never_rises_again():
    config = FitConfig(steps=110, warmup_steps=10, learning_rate=1.0, min_learning_rate=0.2)
    rates = [config.learning_rate_at(step) for step in range(1000)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10 + 99 // 2 + 1] == pytest.approx(0.6, abs=0.01)  # half-way down
    assert rates[109] == pytest.approx(0.2)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    assert set(rates[109:]) == {rates[109]}


class Slowing(Denoiser):
    """Its steps take four times as long after the tenth."""

    def loss(self, batch):
        self.calls = getattr(self, "calls", 0) + 1
        time.sleep(0.02 if self.calls <= 10 else 0.08)
        return super().loss(batch)


def test_a_training_that_becomes_slower_ends_in_time_with_the_lowest_learning_rate(tmp_path):
    began = time.perf_counter()
    config = replace(CONFIG, steps=100, minutes=2 / 60)  # at first they would fit in
    result = fit(Slowing(), Actions(), config, tmp_path)
    assert result.finished and 12 <= result.step < 60
    assert 2 <= time.perf_counter() - began < 4
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [entry["learning_rate"] for entry in logged if entry["group"] == "train"]
    assert max(rates) > 0.9 * config.learning_rate
    assert rates[-1] < 1.5 * config.min_learning_rate
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert Checkpoints(tmp_path / "checkpoints").state(result.checkpoint).seconds >= 2


class InterruptedSlowly(Actions):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 12:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            yield batch


def test_the_time_used_before_an_interruption_counts(tmp_path):
    config = replace(CONFIG, steps=1000, minutes=1.5 / 60)
    first = fit(Denoiser(), InterruptedSlowly(), config, tmp_path)
    assert not first.finished and first.step == 13
    began = time.perf_counter()
    assert fit(Denoiser(), Actions(), config, tmp_path).finished
    assert time.perf_counter() - began < 1.4, "0.65 s of the 1.5 s were used before"
    again = fit(Denoiser(), Actions(), config, tmp_path)
    assert again.finished, "nothing is left to do"


def test_a_time_limit_that_suffices_changes_nothing(uninterrupted, tmp_path):
    assert train(tmp_path, replace(CONFIG, minutes=1000)).step == CONFIG.steps
    found, expected = losses(tmp_path), losses(uninterrupted)
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_is_its_recursion_to_the_bit_and_copies_what_is_not_float(decay):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.BatchNorm1d(3))
    ema = Ema(model, decay)
    expected = {name: x.clone() for name, x in model.state_dict().items()}
    for step in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        model(torch.randn(4, 5))  # moves the buffers
        ema.update(model, step)
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for name, current in model.state_dict().items():
            if current.is_floating_point():
                expected[name] = expected[name].lerp(current, weight)
            else:
                expected[name] = current.clone()
    averaged = ema.model.state_dict()
    assert averaged["1.num_batches_tracked"] == 20
    assert all(torch.equal(averaged[name], x) for name, x in expected.items())


def test_weight_decay_spares_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr("world_models.training.fit.WEIGHT_DECAY", 0.1)

    class Still(Denoiser):
        def loss(self, batch):
            return sum(p.sum() for p in self.parameters()) * 0.0, {}

    model = Still()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(model, Actions(), replace(CONFIG, steps=3), tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter.ndim < 2)


def test_launch_alone_needs_no_cluster():
    fabric = launch("bf16")
    assert (fabric.global_rank, fabric.world_size) == (0, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"min_learning_rate": 1.0}, "min_learning_rate <= learning_rate"),
        ({"precision": "fp8"}, 'must be "auto", "fp32" or "bf16"'),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"minutes": 0.0}, "minutes must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        FitConfig(**change)

"""Fused pieces of a training step: what they compute and how it is differentiated, as without."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from world_models.fused import fusing, is_fusing

from tests.compiler import needs_compiler
from tests.test_training_loop import losses
from tests.training_toy import CONFIG
from world_models.model.attention import Attention
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.peg import Peg
from world_models.model.transformer import geglu
from world_models.presets import tiny
from world_models.training.fit import fit


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """What is to be compiled runs as it is written: the same sums, at once."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def gradients(run: Callable[[], Sequence[Tensor]], of: Sequence[Tensor]) -> list[Tensor]:
    """What is computed, and the gradients of some weighted sum of it."""
    outputs = run()
    torch.manual_seed(1)
    total = sum((torch.randn_like(y) * y).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, of)]


def compare(run: Callable[[], Sequence[Tensor]], of: Sequence[Tensor]) -> None:
    expected = gradients(run, of)
    with fusing():
        found = gradients(run, of)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("num_frames", [1, 2, 4, 5, 7])
def test_neighbours(num_frames, temporal):
    """Of a plain pass, and where some or all frames but the first have a second version."""
    torch.manual_seed(0)
    peg = Peg(6, (3, 4), temporal)
    with torch.no_grad():
        peg.bias.normal_()
    x = torch.randn(2, num_frames, 12, 6, requires_grad=True)
    compare(lambda: [peg(x, min(num_frames, 4))], [x, peg.taps, peg.bias])


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("order", [(0, 1, 3, 2, 4), (0, 2, 3, 1, 4)])
def test_queries_keys_and_values(order):
    torch.manual_seed(0)
    attention = Attention(12, num_heads=2, head_dim=4)
    with torch.no_grad():
        attention.gain.normal_()
    x = torch.randn(2, 3, 5, 12, requires_grad=True)
    compare(lambda: attention.project(x, order), [x, attention.qkv.weight, attention.gain])
    assert all(y.is_contiguous() for y in attention.project(x, order))


@pytest.mark.usefixtures("uncompiled")
def test_gates():
    torch.manual_seed(0)
    x = torch.randn(3, 8, requires_grad=True)
    compare(lambda: [geglu(x)], [x])


def test_it_holds_inside_alone():
    with fusing(), fusing(False):
        assert not is_fusing()
    with pytest.raises(KeyError), fusing():
        assert is_fusing()
        raise KeyError
    assert not is_fusing()


def small() -> DynamicsConfig:
    config = tiny().dynamics
    return replace(config, transformer=replace(config.transformer, num_layers=1))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_step_is_the_same_step(precision):
    torch.manual_seed(0)
    config = small()
    model = Dynamics(config, torch.randn(config.num_codes, config.code_dim))
    batch = next(iter(Windows(config)))
    results = []
    for enabled in (False, True):
        narrow = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with fusing(enabled), narrow:
            loss, _ = model.loss({**batch, "seeds": torch.arange(2)})
        results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    sizes = [float(expected.abs().max()) for expected in results[0]]
    for expected, found, size in zip(*results, sizes, strict=True):
        size = max(size, 1e-3 * max(sizes))  # some gradients are 0 but for rounding
        torch.testing.assert_close(found, expected, atol=tolerance * size, rtol=tolerance)


class Windows:
    """A loader of random windows; asked for number `stop_at`, it is told to stop."""

    def __init__(self, config: DynamicsConfig, stop_at: int | None = None):
        self.config, self.stop_at, self.position = config, stop_at, 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        num_tokens = self.config.grid[0] * self.config.grid[1]
        while True:
            if self.position == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            torch.manual_seed(self.position)
            self.position += 1
            yield {
                "tokens": torch.randint(self.config.num_codes, (2, 5, num_tokens)),
                "actions": torch.randint(self.config.num_actions, (2, 4)),
                "rewards": torch.randn(2, 4),
                "terminated": torch.rand(2, 4) < 0.5,
            }

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def trained(out: Path, compile_: bool, stop_at: int | None = None) -> list[tuple[int, float]]:
    config = small()
    torch.manual_seed(0)
    model = Dynamics(config, torch.randn(config.num_codes, config.code_dim))
    fit(model, Windows(config, stop_at), replace(CONFIG, steps=6, compile=compile_), out)
    return losses(out)


@needs_compiler
def test_compiled_training_is_the_same_training_and_goes_on_exactly(tmp_path):
    plain = trained(tmp_path / "plain", compile_=False)
    compiled = trained(tmp_path / "compiled", compile_=True)
    assert plain == [(step, pytest.approx(loss, rel=1e-3)) for step, loss in compiled]
    assert plain != compiled, "nothing was compiled"
    assert len(trained(tmp_path / "stopped", compile_=True, stop_at=2)) == 3
    assert trained(tmp_path / "stopped", compile_=True) == compiled


def test_without_a_compiler_training_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler was not found"):
        trained(tmp_path, compile_=True)

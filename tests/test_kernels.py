"""Kernels: the fast versions compute what the plain ones do, values and gradients alike."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.compiler import needs_compiler
from tests.test_training_fit import losses
from tests.training_toy import CONFIG
from world_models.kernels.fused import fused_kernels, is_fused
from world_models.kernels.geglu import geglu, geglu_plain
from world_models.kernels.neighbours import (
    add_neighbours,
    add_neighbours_plain,
    convolve,
    shifted_sums,
)
from world_models.kernels.qk_norm import qk_norm, qk_norm_plain
from world_models.kernels.token_distance import (
    ROWS,
    token_distance_cross_entropy,
    token_distance_plain,
)
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.token_space import TokenSpace
from world_models.presets import tiny
from world_models.training.fit import fit

GRID = (3, 4)
CLEAN = 4  # of the frames of a pass, at most; others are masked copies
SPACE = TokenSpace(grid=(4, 4), num_codes=32, code_dim=8)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """What is to be compiled runs as it is written: the same sums, at once."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


FUSED = pytest.mark.parametrize("fused", [False, True], ids=["by hand", "fused"])


def gradients(
    run: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What is computed, and the gradients of some weighted sum of it."""
    outputs = run(*inputs)
    torch.manual_seed(1)
    total = sum((torch.randn_like(y) * y).sum() for y in outputs)
    return outputs, torch.autograd.grad(total, inputs)


def compare(
    fast: Callable[..., Sequence[Tensor]],
    plain: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    fused: bool,
    tolerance: float = 1e-5,
) -> None:
    """Both compute the same and have the same gradients; without gradients, the same again."""
    inputs = [x.requires_grad_() for x in inputs]
    expected = gradients(plain, inputs)
    with fused_kernels(fused):
        torch.testing.assert_close(
            gradients(fast, inputs), expected, atol=tolerance, rtol=tolerance
        )
        with torch.no_grad():
            torch.testing.assert_close(
                tuple(fast(*inputs)), tuple(expected[0]), atol=tolerance, rtol=tolerance
            )
        if not fused:  # which computes in float32
            wide = [x.detach().double().requires_grad_() for x in inputs]
            assert torch.autograd.gradcheck(fast, wide)


@pytest.mark.usefixtures("uncompiled")
@FUSED
def test_geglu(fused):
    torch.manual_seed(0)
    compare(lambda x: (geglu(x),), lambda x: (geglu_plain(x),), [torch.randn(3, 8)], fused)
    value, gate = torch.randn(2, 5, 7)
    found = geglu(torch.cat((value, gate), -1))
    torch.testing.assert_close(found, value * gate * torch.special.ndtr(gate))


def neighbours(x: Tensor, taps: Tensor, bias: Tensor, num_clean: int) -> tuple[Tensor]:
    return (add_neighbours(x, x, taps, bias, GRID, num_clean),)


def neighbours_plain(x: Tensor, taps: Tensor, bias: Tensor, num_clean: int) -> tuple[Tensor]:
    """A masked copy is the last frame of a pass in which all others are clean."""
    num_second = x.shape[1] - num_clean
    frames = [add_neighbours_plain(x[:, :num_clean], x[:, :num_clean], taps, bias, GRID)]
    for i in range(num_second):
        past = x[:, : num_clean - num_second + i]
        alone = torch.cat((past, x[:, num_clean + i, None]), 1)
        frames.append(add_neighbours_plain(alone, alone, taps, bias, GRID)[:, -1:])
    return (torch.cat(frames, 1),)


@pytest.mark.usefixtures("uncompiled")
@FUSED
@pytest.mark.parametrize("num_taps", [1, 3])
@pytest.mark.parametrize("num_frames", [1, 2, 4, 5, 7])
def test_neighbours(num_frames, num_taps, fused):
    """Of a plain pass, and where some or all frames but the first have a masked copy."""
    torch.manual_seed(0)
    num_clean = min(num_frames, CLEAN)
    inputs = [
        torch.randn(2, num_frames, 12, 2),
        torch.randn(num_taps, 2, 1, 3, 3),
        torch.randn(2),
    ]
    run = (partial(f, num_clean=num_clean) for f in (neighbours, neighbours_plain))
    compare(*run, inputs, fused)


@pytest.mark.usefixtures("uncompiled")
@FUSED
def test_neighbours_in_half_precision(fused):
    """The convolution sees bfloat16, what it is added to stays float32."""
    torch.manual_seed(0)
    inputs = [torch.randn(2, 7, 12, 6), 0.2 * torch.randn(3, 6, 1, 3, 3), torch.randn(6)]
    inputs = [x.requires_grad_() for x in inputs]

    def half(x: Tensor, taps: Tensor, bias: Tensor) -> tuple[Tensor]:
        return (add_neighbours(x, x.bfloat16(), taps, bias, GRID, CLEAN),)

    expected = gradients(partial(neighbours_plain, num_clean=CLEAN), inputs)
    with fused_kernels(fused):
        found = gradients(half, inputs)
    assert [x.dtype for part in found for x in part] == [torch.float32] * 4
    for one, other in zip(found, expected, strict=True):
        for x, y in zip(one, other, strict=True):
            assert (x - y).abs().max() < 0.02 * y.abs().max()


def test_convolutions_are_the_same_as_shifted_sums():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 5, 12, 6), torch.randn(6, 1, 3, 3), torch.randn(6)]
    inputs = [x.requires_grad_() for x in inputs]
    fast, plain = (
        gradients(lambda x, w, b, f=f: [f(x, GRID, w, b)], inputs) for f in (shifted_sums, convolve)
    )
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("uncompiled")
@FUSED
@pytest.mark.parametrize("order", [(3, 0, 1, 4, 2, 5), (3, 0, 2, 4, 1, 5)])
def test_qk_norm(order, fused):
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 5, 3, 2, 4), torch.randn(1, 4)]
    compare(partial(qk_norm, order=order), partial(qk_norm_plain, order=order), inputs, fused)
    with fused_kernels(fused):
        found = qk_norm(*inputs, order)
    assert all(x.is_contiguous() for x in found)
    query, key, value = inputs[0].permute(order)
    expected = (F.normalize(query, dim=-1) * inputs[1], F.normalize(key, dim=-1), value)
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("uncompiled")
@FUSED
def test_queries_and_keys_of_length_0_have_finite_gradients(fused):
    order = (3, 0, 1, 4, 2, 5)
    qkv, gain = torch.zeros(1, 1, 2, 3, 2, 4).requires_grad_(), torch.ones(1, 4).requires_grad_()
    with fused_kernels(fused):
        outputs, found = gradients(partial(qk_norm, order=order), [qkv, gain])
    assert all(x.isfinite().all() for x in (*outputs, *found))


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("num", [1, ROWS, 2 * ROWS + 88])
def test_token_distance(weight, num):
    torch.manual_seed(0)
    codes, targets = torch.randn(20, 4), torch.randint(20, (num,))
    logits = torch.randn(num, 20, requires_grad=True)
    fast, plain = (
        gradients(lambda x, f=f: [f(x, targets, codes, weight)], [logits])
        for f in (lambda *x: token_distance_cross_entropy(*x)[0], token_distance_plain)
    )
    torch.testing.assert_close(fast[0], plain[0])
    torch.testing.assert_close(fast[1], plain[1], atol=1e-6, rtol=1e-4)
    cross_entropy = token_distance_cross_entropy(logits, targets, codes, weight)[1]
    torch.testing.assert_close(cross_entropy, F.cross_entropy(logits, targets, reduction="none"))
    assert not cross_entropy.requires_grad


def test_token_distance_in_half_precision_is_that_of_the_rounded_logits():
    torch.manual_seed(0)
    codes, targets = torch.randn(20, 4), torch.randint(20, (300,))
    logits = torch.randn(300, 20).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        cost, _ = token_distance_cross_entropy(logits, targets, codes, 1.0)
    expected = token_distance_plain(logits.float(), targets, codes, 1.0)
    torch.testing.assert_close(cost, expected)
    gradients = (torch.autograd.grad(x.sum(), logits)[0].float() for x in (cost, expected))
    torch.testing.assert_close(*gradients, atol=2e-3, rtol=2e-2)


def test_kernels_are_fused_inside_alone():
    with fused_kernels(), fused_kernels(False):
        assert not is_fused()
    with pytest.raises(KeyError), fused_kernels():
        assert is_fused()
        raise KeyError
    assert not is_fused()


def small() -> DynamicsConfig:
    config = tiny().dynamics
    return replace(config, transformer=replace(config.transformer, num_layers=1))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_step_is_the_same_step(precision):
    torch.manual_seed(0)
    model = Dynamics(small(), SPACE, torch.randn(32, 8))
    batch = next(iter(Windows()))
    results = []
    for enabled in (False, True):
        narrow = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with fused_kernels(enabled), narrow:
            loss, _ = model.loss({**batch, "seeds": torch.arange(2)})
        results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    sizes = [float(expected.abs().max()) for expected in results[0]]
    for expected, found, size in zip(*results, sizes, strict=True):
        size = max(size, 1e-3 * max(sizes))  # some gradients are 0 but for rounding
        torch.testing.assert_close(found, expected, atol=tolerance * size, rtol=tolerance)


class Windows:
    """A loader of random windows; asked for number `stop_at`, it is told to stop."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.position = stop_at, 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            if self.position == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            torch.manual_seed(self.position)
            self.position += 1
            yield {
                "tokens": torch.randint(SPACE.num_codes, (2, 5, SPACE.num_tokens)),
                "actions": torch.randint(5, (2, 4)),
                "rewards": torch.randn(2, 4),
                "terminated": torch.rand(2, 4) < 0.5,
            }

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


@pytest.fixture(autouse=True)
def every_step_is_logged(monkeypatch) -> None:
    monkeypatch.setattr("world_models.training.fit.LOG_EVERY", 1)


def trained(out: Path, compile_: bool, stop_at: int | None = None) -> list[tuple[int, float]]:
    torch.manual_seed(0)
    model = Dynamics(small(), SPACE, torch.randn(32, 8))
    fit(model, Windows(stop_at), replace(CONFIG, steps=6), out, compile=compile_)
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

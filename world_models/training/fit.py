"""The training loop, which trains every model that has ``loss(batch) -> (loss, metrics)``.

Runs resume exactly because *everything random in a step is a function of the seed and the step
number*:

* The loader's position determines the windows.
* `batch["seeds"]` gives each window its own seed for the noise in the loss. Window i of a step has
  the same seed for any number of processes.
* All processes seed torch's global generator with the same number at each step.

So two processes compute the same result as one process with twice the batch size, unless the loss
depends on several windows together, as when tokenizers replace unused codes.

With a time limit (`FitConfig.minutes`), the learning rate and the number of steps also depend on
the speed of the machine.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from world_models.compiler import check_compiler
from world_models.extras import require
from world_models.kernels.fused import fused_kernels
from world_models.memory import keep_freed_memory
from world_models.precision import choose_dtype
from world_models.training.checkpoint import Checkpoints, CheckpointState, Parts
from world_models.training.clock import Clock
from world_models.training.config import FitConfig
from world_models.training.ema import Ema
from world_models.training.progress import Progress
from world_models.training.validation import Loss

if TYPE_CHECKING:
    from lightning.fabric import Fabric
else:
    Fabric = require("lightning.fabric", extra="train", what="training needs Lightning").Fabric

__all__ = [
    "FitResult",
    "Loader",
    "Loss",
    "TrainingDivergedError",
    "chosen_precision",
    "fit",
    "launch",
    "window_seeds",
]

BETAS = (0.9, 0.99)  # for AdamW
WEIGHT_DECAY = 1e-4  # for matrices and kernels only, not for vectors (gains, biases)
CLIP_NORM = 10.0  # gradients with a larger norm are scaled down to this norm
LOG_EVERY = 10  # steps
KEPT_CHECKPOINTS = 2  # number of newest checkpoints that are kept, in addition to the best one

Batch = dict[str, Tensor]
Evaluate = Callable[[nn.Module], Mapping[str, float]]
Sample = Callable[[nn.Module], Tensor]


class Loader(Protocol):
    """An endless source of batches that can be resumed.

    A batch holds the windows that this process trains on in one step. It contains at least
    "actions", ``(B, T - 1)``.
    """

    def __iter__(self) -> Iterator[Batch]:
        """Continue from the current position."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position as JSON values. It counts the batches that were handed out."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position. Raises ValueError if it belongs to other data."""


class TrainingDivergedError(RuntimeError):
    """The loss or its gradient is NaN or infinite; the last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The result of a training run.

    Attributes:
        step: Number of steps taken.
        finished: False if the run was stopped before its end.
        checkpoint: The newest checkpoint.
        model: The model with the averaged weights.
    """

    step: int
    finished: bool
    checkpoint: Path
    model: nn.Module


def chosen_precision(precision: str) -> str:
    """Return "fp32" or "bf16". "auto" means the faster one on this device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = {"fp32": "float32", "bf16": "bfloat16"}.get(precision, precision)
    return "bf16" if choose_dtype(wanted, device) == torch.bfloat16 else "fp32"


def launch(precision: str = "fp32") -> Fabric:
    """Join the other processes, if torchrun started any, and choose the device."""
    for package in ("fabric", "pytorch"):  # they would print the precision again
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    world = int(os.environ.get("WORLD_SIZE", 1))
    fabric = Fabric(
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if chosen_precision(precision) == "bf16" else "32-true",
    )
    fabric.launch()
    keep_freed_memory()
    return fabric


def fit(
    model: nn.Module,
    loader: Loader,
    config: FitConfig,
    out: Path,
    *,
    loss: Loss | None = None,
    compile: bool = False,
    fabric: Fabric | None = None,
    evaluate: Evaluate | None = None,
    sample: Sample | None = None,
    wandb_project: str | None = None,
) -> FitResult:
    """Train a model. If there are checkpoints in `out`, training resumes from the newest one.

    Args:
        model: The model. Only parameters that require a gradient are trained.
        loader: The source of batches.
        config: The optimisation settings.
        out: The run's directory, for checkpoints, metrics.jsonl, tensorboard and samples.
        loss: Maps the model and a batch to loss and metrics; by default ``model.loss(batch)``.
        compile: See `DataOptions`. Raises RuntimeError if there is no compiler.
        fabric: The result of `launch`. Pass it if the loader needs the rank of the process; by
            default, `launch` is called here.
        evaluate: Returns validation metrics for the model with averaged weights; called at each
            checkpoint. The metric "token_loss" (or "loss" if "token_loss" is missing) determines
            the best checkpoint. None: no evaluation.
        sample: Returns a sample image, uint8 ``(H, W, 3)``, from the model with averaged weights;
            called at each checkpoint. None: no images.
        wandb_project: See `Progress`.
    """
    fabric = fabric or launch(config.precision)
    loss = loss or (lambda model, batch: model.loss(batch))
    run = _Run(fabric, model, loss, loader, config, out, compile)
    step = first = run.resume()
    visible = fabric.is_global_zero
    run.progress = progress = Progress(
        out, step=step, steps=config.steps, visible=visible, wandb_project=wandb_project
    )
    batches = iter(loader)
    try:
        with _stop_signals() as stopped:
            asked = False
            while not (ended := run.ended(step)) and not asked:
                run.train(next(batches), step)
                step += 1
                if compile and step == first + 1:
                    progress.restart_clock()  # the speed does not include compiling
                saving = step % config.save_every == 0 or run.ended(step)
                if saving or step % LOG_EVERY == 0 or fabric.world_size == 1 and stopped():
                    asked = run.log(step, stopped())  # the same in all processes
                if saving or asked:
                    run.save(step, evaluate, sample)
    finally:
        progress.close()
    fabric.barrier()
    newest = run.checkpoints.newest()
    assert newest is not None
    return FitResult(step=step, finished=ended, checkpoint=newest, model=run.ema.model)


class _Loss(nn.Module):
    """Computes the loss in `forward`, because DDP and torch.compile wrap a module's `forward`."""

    def __init__(self, model: nn.Module, loss: Loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(self.model, batch)


class _Run:
    """The state of a training run, and the parts of the training loop."""

    progress: Progress

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        loss: Loss,
        loader: Loader,
        config: FitConfig,
        out: Path,
        compile: bool,
    ):
        self.fabric, self.model, self.loader, self.config = fabric, model, loader, config
        optimizer = _optimizer(fabric.to_device(model).train(), config)
        wrapped = _Loss(model, loss)
        self.fused = compile and fabric.device.type == "cpu"
        if compile:
            check_compiler(fabric.device)
            if not self.fused:  # compiling all of it gains nothing on a CPU, and torch 2.13 crashes
                wrapped.compile()
        self.loss, self.optimizer = fabric.setup(wrapped, optimizer)
        self._raw_optimizer = optimizer
        self.ema = Ema(model, config.ema_decay)
        self.checkpoints = Checkpoints(out / "checkpoints", KEPT_CHECKPOINTS)
        self._parts: Parts = {"model": model, "average": self.ema.model, "optimizer": optimizer}
        self._metrics: dict[str, list[Tensor]] = {}
        self._clock, self._used = Clock(config.minutes), 0.0

    def resume(self) -> int:
        """Load the newest checkpoint, and return its step; 0 if there is no checkpoint."""
        if self.fabric.is_global_zero:
            self.checkpoints.clean()
        state = self.checkpoints.resume(self._parts)
        if state is None:
            return 0
        self.loader.load_state_dict(dict(state.data))
        self._clock = Clock(self.config.minutes, state.seconds)
        self._look_at_clock()
        return state.step

    def ended(self, step: int) -> bool:
        """Return whether training is over after `step` steps."""
        return step >= self.config.steps or self._used >= 1

    def train(self, batch: Batch, step: int) -> None:
        """Take the training step with number `step`. Steps count from 0."""
        fabric, config = self.fabric, self.config
        rank, world = fabric.global_rank, fabric.world_size
        torch.manual_seed(int(window_seeds(config.seed, step, 1)))
        for group in self._raw_optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step, self._used)
        rows, length = batch["actions"].shape
        seeds = window_seeds(config.seed, step, rows * world)[rank::world]
        with fused_kernels(self.fused):
            loss, metrics = self.loss(fabric.to_device({**batch, "seeds": seeds}))
            fabric.backward(loss)
        norm = fabric.clip_gradients(
            self.loss, self.optimizer, max_norm=CLIP_NORM, error_if_nonfinite=False
        )
        assert norm is not None
        for name, value in {**metrics, "loss": loss.detach(), "gradient_norm": norm}.items():
            self._metrics.setdefault(name, []).append(value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.model, step)
        self._look_at_clock()
        self.progress.advance(rows * world * (length + 1), self._used)

    def log(self, step: int, stop: bool) -> bool:
        """Log the mean metrics since the last call, and return whether any process has to stop."""
        means = [torch.stack(values).float().mean() for values in self._metrics.values()]
        means.append(torch.tensor(float(stop), device=self.fabric.device))
        *values, stops = self.fabric.all_reduce(torch.stack(means)).tolist()  # type: ignore[union-attr]
        metrics = dict(zip(self._metrics, values, strict=True))
        self._metrics.clear()
        if not math.isfinite(metrics["loss"] + metrics["gradient_norm"]):
            raise TrainingDivergedError(self._diverged(step, metrics))
        metrics["learning_rate"] = self._raw_optimizer.param_groups[0]["lr"]
        metrics["frames_per_s"] = self.progress.frames_per_s
        self.progress.log(step, metrics, "train")
        return stops > 0

    def save(self, step: int, evaluate: Evaluate | None, sample: Sample | None) -> None:
        """Evaluate the averaged weights and write a checkpoint."""
        scores: Mapping[str, float] = {}
        if self.fabric.is_global_zero:
            with torch.no_grad(), self.fabric.autocast():
                if evaluate is not None:
                    scores = evaluate(self.ema.model)
                    self.progress.log(step, scores, "val")
                if sample is not None:
                    self.progress.picture(step, "real-over-predicted", sample(self.ema.model))
        seconds = self._look_at_clock()  # so that the checkpoint also knows whether time is up
        if self.fabric.is_global_zero:
            state = CheckpointState(
                step=step, data=self.loader.state_dict(), scores=scores, seconds=seconds
            )
            self.checkpoints.save(self._parts, state)
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            self.progress.say(f"step {step}: {numbers or 'saved'}")
        self.fabric.barrier()
        self.progress.restart_clock()

    def _look_at_clock(self) -> float:
        """Update the used fraction of the time limit, and return the seconds used.

        With a time limit, all processes use the clock of the first process.
        """
        seconds = self._clock.seconds
        if self.config.minutes is not None:
            seconds = self.fabric.broadcast(seconds)
            self._used = self._clock.share(seconds)
        return seconds

    def _diverged(self, step: int, metrics: Mapping[str, float]) -> str:
        newest = self.checkpoints.newest()
        rescue = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"
        return (
            f"training diverged at or just before step {step}: the loss is {metrics['loss']} and "
            f"the gradient norm is {metrics['gradient_norm']}. Nothing was overwritten: {rescue}. "
            f"Run again with a lower learning rate (now {self.config.learning_rate}), "
            'a longer warm-up, or precision "fp32"'
        )


def window_seeds(seed: int, step: int, num: int) -> Tensor:
    """Return a non-negative seed for each of the `num` windows in a step, int64 ``(num,)``."""
    rng = np.random.default_rng([seed, step])
    return torch.from_numpy(rng.integers(2**62, size=num))


def _optimizer(model: nn.Module, config: FitConfig) -> torch.optim.AdamW:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=True)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and SIGTERM request a clean stop; a second Ctrl-C interrupts as usual.

    Yields a function that returns whether a stop was requested.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def ask(signum: int, frame: object) -> None:
        asked.append(signum)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

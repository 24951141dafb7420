"""Reports a run's progress: a progress bar, metrics.jsonl, TensorBoard, W&B and sample images."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from world_models.extras import require
from world_models.progress import progress_bar

__all__ = ["Progress"]


class Progress:
    """Logs a run to its directory and to the terminal.

    TensorBoard logs are written if TensorBoard is installed. If `wandb_project` is given, they are
    mirrored to this Weights & Biases project. A resumed run deletes the log entries that are newer
    than the checkpoint it resumes from. If there are several processes, set `visible` in only one
    process; the other processes log nothing.
    """

    def __init__(
        self, out: Path, *, step: int, steps: int, visible: bool, wandb_project: str | None = None
    ):
        self._visible, self._out = visible, out
        self._begun, self._frames = time.perf_counter(), 0
        self._writer: Any = None
        self._log = out / "metrics.jsonl"
        hidden = None if visible else True
        self._steps = steps
        self._bar = progress_bar(total=steps, initial=step, unit="step", disable=hidden)
        if not visible:
            return
        _drop_after(self._log, step)
        if wandb_project is not None:
            wandb = require("wandb", extra="wandb", what="--wandb-project needs wandb")
            wandb.init(project=wandb_project, name=out.name, dir=str(out), sync_tensorboard=True)
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def advance(self, frames: int, used: float = 0.0) -> None:
        """Count one step that trained on `frames` frames in all processes together.

        `used` is the used fraction of the time limit. If it is not 0, the bar shows how many steps
        fit into the time limit.
        """
        self._frames += frames
        if used:
            self._bar.total = min(self._steps, max(self._bar.n + 1, round(self._bar.n / used)))
        self._bar.update()

    @property
    def frames_per_s(self) -> float:
        """Training speed since `restart_clock`, in frames per second."""
        return self._frames / max(time.perf_counter() - self._begun, 1e-9)

    def restart_clock(self) -> None:
        """Restart the measurement of `frames_per_s`.

        Call this after compiling, evaluating or saving, so that this time is not counted.
        """
        self._begun, self._frames = time.perf_counter(), 0

    def log(self, step: int, metrics: Mapping[str, float], group: str) -> None:
        """Log the metrics of a step under `group`, which is "train" or "val"."""
        if not self._visible:
            return
        with self._log.open("a") as file:
            file.write(json.dumps({"step": step, "group": group, **metrics}) + "\n")
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
        if group == "train":
            note = f"loss {metrics['loss']:.4f}, {metrics['frames_per_s']:,.0f} frames/s"
            self._bar.set_postfix_str(note, refresh=False)

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        if self._visible:
            tqdm.write(text)

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """Save a sample image, uint8 ``(H, W, 3)``, if Pillow is installed."""
        if not self._visible or not importlib.util.find_spec("PIL"):
            return
        from PIL import Image

        folder = self._out / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture.cpu().numpy()).save(folder / f"{name}-{step:08}.png")
        if self._writer is not None:
            self._writer.add_image(name, picture.cpu().numpy(), step, dataformats="HWC")

    def close(self) -> None:
        """Close the progress bar and the logs."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()


def _drop_after(log: Path, step: int) -> None:
    if not log.exists():
        return
    lines = log.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    log.write_text("".join(kept))

"""Training by its command: overrides, next to nothing installed, killed, and two processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.square_runs import TINY, every_step_logged, log
from world_models.train import main
from world_models.training.checkpoint import Checkpoints
from world_models.training.run_folder import read_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def every_step_is_logged():
    with every_step_logged():
        yield


ROOT = Path(__file__).parents[1]


def test_the_command_line_trains_with_overrides_and_knows_its_names(made, tmp_path, capsys):
    arguments = ["--data", str(made.data), "--out", str(tmp_path / "t"), "--frames", "8"]
    arguments += ["--model.frame-size", "16", "--model.transformer.dim", "32"]
    arguments += ["--model.patch", "4", "--model.transformer.num-layers", "1"]
    arguments += ["--fit.steps", "2", "--fit.batch-size", "2"]
    assert main(["tokenizer", "coinrun-tiny", *arguments]) == 0
    assert "finished at step 2" in capsys.readouterr().out
    assert read_run(tmp_path / "t").model["transformer"]["dim"] == 32
    with pytest.raises(ValueError, match="Did you mean 'coinrun'"):
        main(["tokenizer", "coinrum"])
    with pytest.raises(ValueError, match="Did you mean 'dynamics'"):
        main(["dynamic", "coinrun"])
    with pytest.raises(ValueError, match="omit --model"):
        main(["tokenizer", "coinrun", *arguments, "--from", str(made.world)])


BARE = """
import sys
import torchmetrics  # which Lightning imports; it imports matplotlib if that is here, and so PIL
for name in ("gymnasium", "stable_baselines3", "stable_retro", "procgen", "cv2", "PIL",
             "tensorboard", "platformdirs", "wandb", "ray", "minari", "pygame"):
    sys.modules[name] = None  # importing it raises ImportError
import world_models.training.fit
world_models.training.fit.LOG_EVERY = 1
from world_models.train import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_machine_with_nothing_but_torch_and_the_store_can_train(made, tmp_path):
    out = tmp_path / "tokenizer"
    arguments = arguments_of(
        "tokenizer", made.data, out, made.tokenizer, steps=2, batch_size=2, save_every=2
    )
    subprocess.run([sys.executable, "-c", BARE, *arguments], cwd=ROOT, check=True, timeout=100)
    assert len(log(out, "train")) == 2


def arguments_of(kind: str, data: Path, out: Path, tokenizer: Path, **fit: int) -> list[str]:
    """The command line of a small run in float32."""
    values = {
        "data": data,
        "out": out,
        "frames": 8,
        "model.transformer.dim": 32,
        "model.transformer.num-layers": 1,
        "model.transformer.num-heads": 2,
        "model.transformer.head-dim": 16,
        "fit.precision": "fp32",
        "fit.warmup-steps": 1,
    }
    values |= {f"fit.{name.replace('_', '-')}": value for name, value in fit.items()}
    arguments = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    if kind == "tokenizer":
        model = TINY.tokenizer
        arguments += ["--model.frame-size", "16", "--model.patch", "4"]
        arguments += ["--model.num-codes", f"{model.num_codes}"]
        return [kind, "coinrun-tiny", *arguments, "--model.code-dim", f"{model.code_dim}"]
    arguments += ["--model.num-actions", "5"]
    return [kind, "coinrun-tiny", *arguments, "--tokenizer", str(tokenizer)]


def alone(arguments: list[str]) -> None:
    """Run the command in this process."""
    assert main(arguments) == 0


KINDS = pytest.mark.parametrize("kind", ["tokenizer", "dynamics"])


@KINDS
def test_a_training_command_killed_with_kill_9_goes_on_to_the_very_same_losses(
    kind, made, tmp_path
):
    def arguments(out: Path) -> list[str]:
        many = {"steps": 80, "batch_size": 2, "save_every": 20}
        return arguments_of(kind, made.data, out, made.tokenizer, **many)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    alone(arguments(whole))
    command = [sys.executable, "-m", "tests.logged_training", *arguments(killed)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    metrics = killed / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 25:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    checkpoints = killed / "checkpoints"
    newest = Checkpoints(checkpoints).newest()
    assert newest is not None and newest.name < "step-00000080"
    (checkpoints / "step-00000060.part-dead").mkdir()  # as if killed while saving

    alone(arguments(killed))
    for group in ("train", "val"):
        one, two = (
            [{k: v for k, v in line.items() if k != "frames_per_s"} for line in log(run, group)]
            for run in (whole, killed)
        )
        assert one == two
    assert len(log(killed, "train")) == 80
    for file in ("model", "average", "optimizer"):
        path = f"checkpoints/step-00000080/{file}.safetensors"
        assert (whole / path).read_bytes() == (killed / path).read_bytes()
    assert not list(killed.rglob("*.part-*"))


@KINDS
def test_torchrun_with_two_processes_equals_one_with_twice_the_batch(kind, made, tmp_path):
    ignored = shutil.ignore_patterns("tokens")  # both processes encode
    data = shutil.copytree(made.data, tmp_path / "data", ignore=ignored)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    one, two = tmp_path / "one", tmp_path / "two"
    few = {"steps": 5, "save_every": 5}
    arguments = arguments_of(kind, data, two, made.tokenizer, batch_size=2, **few)
    command = [*torchrun, "-m", "tests.logged_training", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    alone(arguments_of(kind, data, one, made.tokenizer, batch_size=4, **few))
    expected = [line["loss"] for line in log(one, "train")]
    assert len(expected) == 5
    assert [line["loss"] for line in log(two, "train")] == pytest.approx(expected, abs=1e-4)

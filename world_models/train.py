"""Training from the command line: ``python -m world_models.train``, also under torchrun.

python -m world_models.train tokenizer RECIPE --data DATA --out RUN
python -m world_models.train dynamics RECIPE --data DATA --out RUN --tokenizer RUN
python -m world_models.train bundle --data DATA --tokenizer RUN --dynamics RUN --out WORLD
torchrun --nproc-per-node 8 -m world_models.train dynamics paper --data ...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import torch.distributed as dist
import tyro

from world_models.command_line import parse, show_usage
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import (
    RECIPES,
    DynamicsRecipe,
    LatentActionRecipe,
    TokenizerRecipe,
)
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["main"]

FLAT = tyro.conf.arg(name="")  # flags without a prefix


@dataclass(frozen=True, kw_only=True)
class Command:
    """The arguments of a training run: the folders for data and results, and the settings."""

    options: Annotated[DataOptions | DynamicsOptions, FLAT]
    recipe: Annotated[TokenizerRecipe | LatentActionRecipe | DynamicsRecipe, FLAT]


KINDS = {
    "tokenizer": "Train a tokenizer; with --from only a world's decoder. Its tokens do not change.",
    "latent-action": "Train a latent action model, which infers the action between two frames.",
    "dynamics": "Train a dynamics model on tokens, which are computed once and cached.",
}
EXAMPLES = """examples:
  {prog} tokenizer coinrun --data data/coinrun --out runs/tokenizer
  {prog} dynamics coinrun --data data/coinrun --tokenizer runs/tokenizer --out runs/dynamics
  {prog} bundle --data data/coinrun --tokenizer runs/tokenizer --dynamics runs/dynamics \\
      --out worlds/CoinRun

{prog} KIND RECIPE --help lists every setting with its default; so does bundle --help.
genie-gym build runs all of these steps, from the game to the world.
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        return show_usage(usage(), argv)
    kind = _known("training", argv[0], [*KINDS, "bundle"])
    if kind == "bundle":
        options = parse(BundleOptions, argv[1:], prog=f"{_prog()} bundle")
        print(build_bundle(options))
        return 0
    if len(argv) < 2 or argv[1] in ("-h", "--help"):
        return show_usage(usage(), argv)
    recipe = getattr(RECIPES[_known("recipe", argv[1], RECIPES)](), kind.replace("-", "_"))
    options_class = DynamicsOptions if kind == "dynamics" else DataOptions
    missing = options_class(data=tyro.MISSING, out=tyro.MISSING)
    command = parse(
        Command,
        argv[2:],
        tyro.conf.AvoidSubcommands,  # the recipe determines the types of settings
        default=Command(options=missing, recipe=recipe),
        description=KINDS[kind],
        prog=f"{_prog()} {kind} {argv[1]}",
    )
    if command.options.from_world and command.recipe.model != recipe.model:
        raise ValueError("--from uses the world model's own architecture; omit --model options")
    from world_models.training import runs  # imports Lightning, which --help does not need

    result = getattr(runs, f"train_{kind.replace('-', '_')}")(command.recipe, command.options)
    if dist.is_initialized():
        dist.destroy_process_group()  # its threads must end before the process does
    done = "finished" if result.finished else "stopped; run the same command to resume"
    print(f"{done} at step {result.step}: {result.checkpoint}")
    return 0 if result.finished else 130


def usage() -> str:
    """Return the help text that is printed before a recipe is chosen."""
    kinds = {**KINDS, "bundle": "Make a world from the trained parts."}
    recipes = {name: (make.__doc__ or "").splitlines()[0] for name, make in RECIPES.items()}
    return "\n".join(
        [
            f"usage: {_prog()} KIND RECIPE --data DATA --out RUN ...",
            f"       {_prog()} bundle --data DATA --tokenizer RUN --dynamics RUN --out WORLD ...",
            "",
            "kinds:",
            *(f"  {name:<15} {text}" for name, text in kinds.items()),
            "",
            "recipes:",
            *(f"  {name:<15} {text}" for name, text in recipes.items()),
            "",
            EXAMPLES.format(prog=_prog()),
        ]
    )


def _prog() -> str:
    called = sys.argv[0]
    return called if called.startswith("genie-gym ") else "python -m world_models.train"


def _known(what: str, name: str, names: Sequence[str] | dict[str, Any]) -> str:
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}: expected one of {', '.join(names)}.{hint}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError, ImportError, RuntimeError) as failure:
        print(f"train: {failure}", file=sys.stderr)
        sys.exit(1)

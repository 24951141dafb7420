"""A small recipe and the settings of a build of seconds, for the tests of `genie-gym build`."""

from dataclasses import replace
from pathlib import Path

from genie_gym.build.command import BuildConfig
from world_models.training.recipes import RECIPES, WorldRecipe

GAME = "tests.picture_env:PictureGame-v0"


def tiny() -> WorldRecipe:
    recipe = RECIPES["atari"]()
    model = recipe.dynamics.model
    size = replace(model.transformer, dim=32, num_layers=1, head_dim=16, position_dim=8, window=4)
    patches = replace(recipe.tokenizer.model, frame_size=32, patch=8, num_codes=480)
    fit = replace(recipe.tokenizer.fit, batch_size=2, precision="fp32")
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, model=patches, fit=fit, frames=4),
        dynamics=replace(
            recipe.dynamics,
            model=replace(model, transformer=size),
            fit=replace(recipe.dynamics.fit, precision="fp32"),
            frames=4,
        ),
    )


def config(folder: Path, env: str, **more) -> BuildConfig:
    kwargs = {"frame_size": "32", **more.pop("env_kwargs", {})}
    given = {"minutes": 0.05, "out": folder / "build", "worlds": folder / "worlds", **more}
    return BuildConfig(env=env, max_steps=20, env_kwargs=kwargs, **given)

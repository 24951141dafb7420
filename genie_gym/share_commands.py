"""`genie-gym worlds pull SOURCE` and `genie-gym worlds push WORLD TARGET`: share world models."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import tyro
from tqdm import tqdm

from world_models.worlds.find import VARIABLE, check_name, find_world, list_worlds, user_folder
from world_models.worlds.pull import RemoteWorld
from world_models.worlds.push import push_world

__all__ = ["Pull", "Push", "pull", "push"]


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Downloads a world model into your folder of world models and verifies all its files.

    Run the same command again to resume after an interruption.
    """

    source: tyro.conf.Positional[str]
    """Source of the world model: hf://USER/NAME, https://..., s3://..., or a folder."""
    name: str | None = None
    """Name of the world model on this machine; by default the name in its card."""
    replace: bool = False
    """Replace an existing world model of the same name."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """Uploads a world model with a model card. For hf:// targets, first run: hf auth login."""

    world: tyro.conf.Positional[str]
    """Name or path of the world model."""
    target: tyro.conf.Positional[str]
    """Target of the upload: hf://USER/NAME (one repository per model), s3://..., or a folder."""
    license: str | None = None
    """Identifier of the licence, such as cc-by-4.0; required on the Hugging Face Hub."""
    private: bool = False
    """Create a private repository on the Hugging Face Hub."""
    replace: bool = False
    """Overwrite an existing target. Not needed on the Hub, where every push is a commit."""


def pull(command: Pull) -> int:
    """Downloads the world model and prints its path."""
    remote = RemoteWorld.read(command.source)
    name = check_name(command.name or remote.card.name)
    path = user_folder() / name
    there = list_worlds().get(name)
    if there is not None and remote.is_at(there):
        print(f"{there} is the same world model already")
        return 0
    if there is not None and not command.replace:
        raise FileExistsError(
            f"another world model is already named {name!r} ({there}): choose another --name, "
            "or replace it with --replace"
        )
    total = remote.num_bytes
    with tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        remote.download(path, replace=command.replace, progress=bar.update)
    print(f"pulled {path}")
    if (found := list_worlds().get(name, path)) != path:
        print(f"another world model of this name comes first ({found}); to use the new one, run:")
        print(f"  export {VARIABLE}={shlex.quote(str(path.parent))}")
    print(f'gym.make("GenieRedux/{name}-v0")')
    return 0


def push(command: Push) -> int:
    """Uploads the world model and prints the address of the copy."""
    address = push_world(
        find_world(command.world),
        command.target,
        license=command.license,
        private=command.private,
        replace_existing=command.replace,
    )
    print(f"pushed {address}")
    print(f"genie-gym worlds pull {address}")
    return 0

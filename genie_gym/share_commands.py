"""`genie-gym worlds pull SOURCE` and `genie-gym worlds push WORLD TARGET`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import tyro
from tqdm import tqdm

from world_models.worlds.find import find_world, list_worlds, user_folder
from world_models.worlds.pull import RemoteWorld
from world_models.worlds.push import push_world

__all__ = ["Pull", "Push", "pull", "push"]


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Downloads a world into the user's folder of worlds, and verifies all of its files.

    Run the same command again to resume after an interruption.
    """

    source: tyro.conf.Positional[str]
    """Address of the world: hf://USER/NAME, https://..., s3://..., or a folder."""
    name: str | None = None
    """Name of the world on this machine; by default the name in its card."""
    replace: bool = False
    """Replace an existing world of the same name."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """Uploads a world with a model card. hf:// addresses require a login: hf auth login."""

    world: tyro.conf.Positional[str]
    """Name or path of the world."""
    target: tyro.conf.Positional[str]
    """Target address: hf://USER/NAME (one repository per world), s3://..., or a folder."""
    license: str | None = None
    """Identifier of the world's licence, such as cc-by-4.0; the Hub requires one."""
    private: bool = False
    """Create the repository on the Hub as a private repository."""
    replace: bool = False
    """Overwrite a world at the target. Not needed on the Hub, where every push is a commit."""


def pull(command: Pull) -> int:
    """Downloads the world; prints its path."""
    remote = RemoteWorld.read(command.source)
    name = command.name or remote.card.name
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"{name!r} cannot be the name of a world: choose one with --name")
    path = user_folder() / name
    there = list_worlds().get(name)
    if there is not None and remote.is_at(there):
        print(f"{there} is this world already")
        return 0
    if there is not None and not command.replace:
        raise FileExistsError(
            f"another world is already named {name!r} ({there}): choose another name with --name, "
            "or replace it with --replace"
        )
    total = remote.num_bytes
    with tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        remote.download(path, replace=command.replace, progress=bar.update)
    print(f"pulled {path}")
    print(f'gym.make("GenieRedux/{name}-v0")')
    return 0


def push(command: Push) -> int:
    """Uploads the world; prints its address."""
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

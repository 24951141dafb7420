"""Uploads world models to the Hugging Face Hub or to any fsspec file system."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from world_models.extras import require
from world_models.worlds.address import filesystem, hub_repository, parse_address
from world_models.worlds.card import (
    CARD,
    README,
    WorldCard,
    check_files,
)
from world_models.worlds.model_card import check_license, model_card

__all__ = ["push_world"]


def push_world(
    path: Path,
    address: str,
    *,
    license: str | None = None,
    private: bool = False,
    replace_existing: bool = False,
) -> str:
    """Check a bundle's files, and upload the bundle with a model card as its README.md.

    Args:
        path: Directory of the bundle.
        address: ``hf://USER/NAME``, a repository for this world alone, which is created if needed;
            or an fsspec address, such as ``s3://BUCKET/NAME`` or a folder.
        license: Identifier of the world's licence, such as "cc-by-4.0". The Hub requires one.
        private: Create the repository on the Hub as private.
        replace_existing: Overwrite an existing world. Not needed on the Hub: each push is a commit.

    Returns:
        The address from which the world can be pulled.

    Raises:
        BundleError: If the bundle is damaged.
        FileExistsError: If there is a world at the address, and `replace_existing` is False.
        ValueError: If the address cannot be written to.
    """
    address = parse_address(address)
    repository = hub_repository(address)
    if address.startswith(("https://", "http://")):
        raise ValueError(
            f"{address} can only be read: copy the folder {path} to the web server, or push to an "
            "address that can be written to, such as hf://USER/NAME or s3://BUCKET/NAME"
        )
    if repository is not None and "@" in address:
        raise ValueError(f"a push commits to the main branch: omit @REVISION in {address}")
    card = WorldCard.read(path)
    check_files(path, card.files)
    if license is not None:
        provenance = {**card.provenance, "license": check_license(license)}
        card = replace(card, provenance=provenance)
    if repository is not None and "license" not in card.provenance:
        raise ValueError("the Hub requires a licence: add --license, such as --license cc-by-4.0")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder)
        _copy(path, card, address, bundle)
        if repository is None:
            _write(bundle, address, replace_existing)
        else:
            _commit(bundle, repository, card, private)
    return address


def _copy(path: Path, card: WorldCard, address: str, bundle: Path) -> None:
    """Copy the files that the card lists, and write the card and the README."""
    for name in card.files:
        shutil.copyfile(path / name, bundle / name)
    (bundle / CARD).write_text(card.to_json())
    (bundle / README).write_text(model_card(card, address))


def _write(bundle: Path, address: str, replace_existing: bool) -> None:
    fs, folder = filesystem(address)
    if fs.exists(f"{folder}/{CARD}"):
        if not replace_existing:
            raise FileExistsError(f"{address} already has a world; add --replace to overwrite it")
        fs.rm_file(f"{folder}/{CARD}")
    fs.makedirs(folder, exist_ok=True)
    files = sorted(bundle.iterdir(), key=lambda file: file.name == CARD)
    for file in files:  # the card is last: where it exists, all files exist
        fs.put_file(str(file), f"{folder}/{file.name}")


def _commit(bundle: Path, repository: str, card: WorldCard, private: bool) -> None:
    hub = require("huggingface_hub", extra="share", what="hf:// addresses need huggingface_hub")
    api = hub.HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository,
        folder_path=bundle,
        commit_message=f"Add {card.name}, a world model of {card.env_id}",
    )

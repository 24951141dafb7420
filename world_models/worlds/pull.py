"""Downloads world models. A world model can be opened once all its checksums are verified."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from world_models.files import atomic_directory, replace_text
from world_models.worlds.address import open_file, parse_address
from world_models.worlds.card import (
    CARD,
    MAX_BYTES,
    README,
    BundleError,
    WorldCard,
    file_record,
)
from world_models.worlds.model_card import model_card

__all__ = ["RemoteWorld", "pulled_world"]

MAX_WORLD_BYTES = 16 << 30
BLOCK = 1 << 18  # bytes per read; an interruption loses at most one block
DOWNLOADS = ".downloads"  # folder for unfinished files, in the folder of worlds

_FILE_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteWorld:
    """A world model at an address.

    Attributes:
        address: Address of the world's folder.
        card: The world's card, which lists the other files.
        text: The bytes of the card file.
    """

    address: str
    card: WorldCard
    text: bytes

    @classmethod
    def read(cls, address: str) -> RemoteWorld:
        """Download and check the card of the world at an address.

        Raises:
            FileNotFoundError: If there is no card.
            BundleError: If the card is too large or damaged, or if its list of files is invalid.
        """
        address = parse_address(address)
        source = f"{address}/{CARD}"
        try:
            file, _ = open_file(source)
            with file:
                text = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise FileNotFoundError(f"{address} is not a world: it has no {CARD}") from None
        except (OSError, ValueError, ImportError):
            raise
        except Exception as fault:  # each protocol has its own errors for a lost connection
            raise OSError(f"{source} cannot be read: {fault!r}") from fault
        if len(text) > MAX_BYTES:
            raise BundleError(f"{source} has more than {MAX_BYTES:,} bytes, the limit for a card")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, CARD).write_bytes(text)
            try:
                card = WorldCard.read(Path(folder))
            except BundleError as fault:
                raise BundleError(str(fault).replace(folder, address)) from None
        _check_declared(source, card)
        return cls(address=address, card=card, text=text)

    @property
    def checksum(self) -> str:
        """SHA-256 of the card, which identifies the world: the card lists all files' checksums."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Total size in bytes of the files that the card lists."""
        return sum(record["bytes"] for record in self.card.files.values())

    def is_at(self, path: Path) -> bool:
        """Return whether the bundle at `path` is this world."""
        card = path / CARD
        return card.is_file() and file_record(card)["sha256"] == self.checksum

    def download(
        self, path: Path, *, replace: bool = False, progress: Callable[[int], object] = lambda n: 0
    ) -> None:
        """Download the bundle to `path`; it appears there complete or not at all.

        After an interruption, the next call resumes where the download stopped.

        Args:
            path: Directory of the bundle.
            replace: Overwrite a bundle that exists there.
            progress: Called with the number of added bytes; negative if a file starts over.

        Raises:
            FileExistsError: If there is another bundle at `path`, and `replace` is False.
            FileNotFoundError: If a file of the world is missing.
            OSError: If the connection ended too early.
            BundleError: If a file does not have the size or the checksum that the card lists.
        """
        from filelock import FileLock  # comes with torch

        downloads = path.parent / DOWNLOADS
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / f"{self.checksum}.lock"):
            if self.is_at(path):  # another process was faster
                return
            if path.exists() and not replace:
                raise FileExistsError(f"{path} already exists; choose another name, or replace it")
            parts = {name: self._fetch(name, downloads, progress) for name in self.card.files}
            with atomic_directory(path, replace=replace) as bundle:
                (bundle / CARD).write_bytes(self.text)
                (bundle / README).write_text(model_card(self.card))
                for name, part in parts.items():
                    part.rename(bundle / name)

    def _fetch(self, name: str, downloads: Path, progress: Callable[[int], object]) -> Path:
        """Download and verify a file, and return its path."""
        record, source = self.card.files[name], f"{self.address}/{name}"
        part = downloads / f"{record['sha256']}-{name}"
        have = part.stat().st_size if part.exists() else 0
        progress(have)
        try:
            _read_on(source, part, record["bytes"], progress)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{source} is missing, although {CARD} lists it: the upload was incomplete"
            ) from None
        if file_record(part)["sha256"] != record["sha256"]:
            part.unlink()
            raise BundleError(
                f"{source} does not have the checksum listed in {CARD}: it was changed or damaged, "
                "and the downloaded copy has been deleted"
            )
        return part


def pulled_world(address: str, folder: Path) -> Path:
    """Return the bundle of the world at an address, downloaded to `folder` on first use.

    Later calls return the same copy without contacting the server, so the world stays the same.
    A bundle's folder is named after the world's checksum.
    """
    address = parse_address(address)
    note = folder / "addresses" / hashlib.sha256(address.encode()).hexdigest()
    if note.is_file() and (path := folder / note.read_text()).is_dir():
        return path
    remote = RemoteWorld.read(address)
    path = folder / remote.checksum
    remote.download(path)
    replace_text(note, path.name)
    return path


def _read_on(source: str, part: Path, size: int, progress: Callable[[int], object]) -> None:
    """Download the rest of the file `part`, up to its declared size."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size and have:
        return
    file, start = open_file(source, have)
    with file, part.open("r+b" if part.exists() else "wb") as out:
        progress(start - have)
        have = out.seek(start)
        out.truncate()
        try:
            while block := file.read(min(BLOCK, size - have + 1)):
                if have + len(block) > size:
                    raise BundleError(
                        f"{source} has more than the {size:,} bytes that {CARD} lists: the "
                        "file was changed"
                    )
                have += out.write(block)
                progress(len(block))
        except BundleError:
            raise
        except Exception as fault:  # as in `RemoteWorld.read`
            raise _interrupted(source, have, size, repr(fault)) from None
    if have < size:
        raise _interrupted(source, have, size, "the connection ended")


def _interrupted(source: str, have: int, size: int, why: str) -> OSError:
    return OSError(
        f"{source} was read up to {have:,} of {size:,} bytes ({why}): try again to resume"
    )


def _check_declared(source: str, card: WorldCard) -> None:
    """Raise BundleError if a card declares no files, or invalid names, sizes or checksums."""
    if not card.files:
        raise BundleError(
            f"{source} lists no files, so nothing can be verified: save the world again"
        )
    total = 0
    for name, record in card.files.items():
        size, sha256 = record.get("bytes"), record.get("sha256")
        if not _FILE_NAME.fullmatch(name) or name == CARD:
            raise BundleError(f"{source} names the file {name!r}, which is not allowed")
        if type(size) is not int or size < 0 or not _SHA256.fullmatch(str(sha256)):
            raise BundleError(f"{source}: {name} needs bytes and sha256, got {record!r}")
        total += size
    if total > MAX_WORLD_BYTES:
        raise BundleError(
            f"{source} declares {total:,} bytes; the limit for a world is {MAX_WORLD_BYTES:,}"
        )

"""Recognises ROMs by checksum and copies them into stable-retro's folders."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import lzma
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from genie_gym.errors import MissingDependencyError
from genie_gym.retroact import roms
from world_models.files import atomic_file

__all__ = ["ImportReport", "ale_roms", "games_by_sha1", "import_roms", "readings"]

_NES_HEADER, _COPIER_HEADER, _SMD_BLOCK = 16, 512, 0x4000
_MAX_FILE_SIZE = 1 << 30
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError),
)


@dataclass(kw_only=True)
class ImportReport:
    """Results of an import.

    Attributes:
        imported: For each imported game, the file that its ROM was copied from.
        already: Games that already had the same ROM.
        num_files: Number of files read, including those inside zip archives.
    """

    imported: dict[str, str] = field(default_factory=dict)
    already: set[str] = field(default_factory=set)
    num_files: int = 0


def ale_roms() -> Path:
    """Returns the folder with the ROMs inside the ale-py package."""
    spec = importlib.util.find_spec("ale_py")
    folder = Path(spec.origin).parent / "roms" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise MissingDependencyError(
            "the Atari 2600 ROMs are part of ale-py, which is not installed. "
            "Run: pip install 'ale-py>=0.11'"
        )
    return folder


def import_roms(paths: Iterable[Path]) -> ImportReport:
    """Imports every ROM that belongs to a stable-retro game.

    Args:
        paths: Files, folders (searched recursively) and zip archives.

    Raises:
        FileNotFoundError: If a path does not exist.
        PermissionError: If stable-retro's folder is not writable.
    """
    wanted = games_by_sha1()
    report = ImportReport()
    for path in paths:
        for source, content in _files(path):
            report.num_files += 1
            for sha1, rom in readings(content):
                for name in wanted.get(sha1, ()):
                    _place(name, rom, source, report)
    return report


def games_by_sha1() -> dict[str, list[str]]:
    """Returns a dict from the SHA-1 sum of each ROM to the names of its stable-retro games."""
    games: dict[str, list[str]] = defaultdict(list)
    for name in roms.installed_games():
        for sha1 in roms.expected_sha1(roms.game_dir(name)):
            games[sha1].append(name)
    return games


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the name and content of each file under a path, including files inside archives."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: check the path")
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in inside:
        if file.is_file() and file.stat().st_size <= _MAX_FILE_SIZE:
            content = file.read_bytes()
            yield str(file), content
            yield from _unzipped(str(file), content)


def _unzipped(source: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and entry.file_size <= _MAX_FILE_SIZE:
                    name, inner = f"{source}/{entry.filename}", archive.read(entry)
                    yield name, inner
                    yield from _unzipped(name, inner)
    except _UNREADABLE:
        return  # not a valid archive, or a damaged one, or one with a password


def readings(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the possible readings of a ROM file, each as a SHA-1 sum and the content to store.

    The first reading is the unchanged file. Later readings ignore a NES header, remove a copier
    header, or undo the Super Magic Drive's byte order.
    """
    yield hashlib.sha1(content).hexdigest(), content
    if content.startswith(b"NES\x1a"):
        yield hashlib.sha1(content[_NES_HEADER:]).hexdigest(), content
    if len(content) % 1024 == _COPIER_HEADER:
        body = content[_COPIER_HEADER:]
        yield hashlib.sha1(body).hexdigest(), body
        if len(body) % _SMD_BLOCK == 0:
            plain = _deinterleaved(body)
            yield hashlib.sha1(plain).hexdigest(), plain


def _deinterleaved(body: bytes) -> bytes:
    """Undoes the Super Magic Drive's order: in each block, odd bytes come before even bytes."""
    plain, half = bytearray(len(body)), _SMD_BLOCK // 2
    for start in range(0, len(body), _SMD_BLOCK):
        block = body[start : start + _SMD_BLOCK]
        plain[start : start + _SMD_BLOCK : 2] = block[half:]
        plain[start + 1 : start + _SMD_BLOCK : 2] = block[:half]
    return bytes(plain)


def _place(name: str, rom: bytes, source: str, report: ImportReport) -> None:
    folder = roms.game_dir(name)
    original = roms.read_json(folder / "metadata.json").get("original_rom_name")
    names = [f"rom{roms.rom_extension(name.rpartition('-')[2])}", *([original] if original else [])]
    missing = [file for file in names if not _holds(folder / file, rom)]
    for file in missing:
        _write(folder / file, rom)
    if missing:
        report.imported[name] = source
    elif name not in report.imported:
        report.already.add(name)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _write(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    try:
        with atomic_file(path) as part:
            part.write_bytes(content)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # the disk's fault
            raise
        raise PermissionError(
            f"cannot write {path} ({failure.strerror}). Run the command as the owner of that "
            "folder, or copy stable-retro's data folder to a folder of your own and set "
            "$RETRO_DATA_PATH to it"
        ) from failure

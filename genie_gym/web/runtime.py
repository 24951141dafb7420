"""Finds or downloads ONNX Runtime Web, the library that runs a world model in a browser."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import platformdirs

__all__ = ["FILES", "PACKAGE", "runtime_files"]

PACKAGE = "onnxruntime-web@1.22.0"
"""The npm package. Newer versions are larger; the WebAssembly file of this version is 11 MB."""
_WASM = "ort-wasm-simd-threaded"
FILES = {
    "ort.wasm.min.mjs": "6ef726f355b791129f7ddf3f62e7877a16b9b777abe87004b8ab306e6b9cf265",
    f"{_WASM}.mjs": "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8",
    f"{_WASM}.wasm": "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4",
}
"""The files that the web page needs, and their SHA-256 sums."""


def runtime_files(folder: Path | None = None) -> list[Path]:
    """Return the files of ONNX Runtime Web, and download them if needed.

    Args:
        folder: Folder with the files or with the unpacked npm package. By default, the files are
            downloaded once to the user's cache folder.

    Raises:
        RuntimeError: If the files cannot be found or downloaded, or have wrong checksums.
    """
    if folder is None:
        folder = Path(platformdirs.user_cache_dir("genie-gym")) / PACKAGE.replace("@", "-")
        if not all((folder / name).is_file() for name in FILES):
            _download(folder)
    inner = folder / "dist"
    found = [(inner if inner.is_dir() else folder) / name for name in FILES]
    for file in found:
        _check(file)
    return found


def _check(file: Path) -> None:
    if not file.is_file():
        raise RuntimeError(f"{file} is missing; {_way_out()}")
    if hashlib.sha256(file.read_bytes()).hexdigest() != FILES[file.name]:
        raise RuntimeError(f"{file} is not the file from {PACKAGE}; {_way_out()}")


def _download(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"npm, which downloads {PACKAGE}, is not installed; {_way_out()}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = [npm, "pack", PACKAGE, "--json", "--silent"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm failed: {done.stderr.strip()[-300:]}; {_way_out()}")
        archive = Path(work) / json.loads(done.stdout)[0]["filename"]
        unpacked = Path(work) / "files"
        unpacked.mkdir()
        with tarfile.open(archive) as package:
            for name in FILES:
                member = package.extractfile(f"package/dist/{name}")
                assert member is not None
                (unpacked / name).write_bytes(member.read())
        for name in FILES:
            _check(unpacked / name)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _way_out() -> str:
    return f"unpack the npm package {PACKAGE} yourself and pass its folder with --runtime FOLDER"

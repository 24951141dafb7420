"""Exports a world model as a folder of static files that run in a browser."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from genie_gym.envs.loaded_worlds import LoadedWorld, open_world
from genie_gym.play.session import idle_action
from genie_gym.web.graphs import check_exportable, export_graphs
from genie_gym.web.runtime import runtime_files

__all__ = ["export_web"]

_PLAY = Path(__file__).parents[1] / "play" / "page"
_OWN = Path(__file__).parent / "page"
_SHARED = ("controls.js", "curves.js", "icon.svg", "main.js", "meter.js", "screen.js", "style.css")


def export_web(world: str | Path, out: Path, runtime: Path | None = None) -> Path:
    """Write a world model as static files.

    Args:
        world: Name or path of the world model.
        out: The folder to write; if it exists, it must be empty.
        runtime: Folder with ONNX Runtime Web; by default, npm downloads it once.

    Returns:
        The folder `out`.

    Raises:
        ValueError: If a browser cannot run the world model, or the folder is not empty.
        RuntimeError: If ONNX Runtime Web is not found and cannot be downloaded.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose another folder or delete it")
    loaded = open_world(world, device="cpu", dtype="float32")
    check_exportable(loaded.card.name, loaded.model)
    files = runtime_files(runtime)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        made = Path(work) / "web"
        _write_page(made)
        _write_world(loaded, made / "world")
        (made / "ort").mkdir()
        for file in files:
            shutil.copy(file, made / "ort")
        if out.exists():
            out.rmdir()
        made.rename(out)
    return out


def _write_page(out: Path) -> None:
    (out / "page").mkdir(parents=True)
    for name in _SHARED:
        shutil.copy(_PLAY / name, out / "page")
    for file in _OWN.iterdir():
        shutil.copy(file, out / "page")
    # A server may serve the folder at any path, so URLs are relative.
    page = (_PLAY / "index.html").read_text().replace('"/page/', '"page/')
    (out / "index.html").write_text(page)


def _write_world(loaded: LoadedWorld, out: Path) -> None:
    out.mkdir()
    graphs = export_graphs(loaded.model)
    for name, graph in graphs.items():
        (out / f"{name}.onnx").write_bytes(graph)
    frames = loaded.starts.frames
    (out / "starts.bin").write_bytes(frames.numpy().tobytes())
    (out / "world.json").write_text(json.dumps(_card(loaded, list(graphs))))


def _card(loaded: LoadedWorld, graphs: list[str]) -> dict[str, Any]:
    card, model, starts = loaded.card, loaded.model, loaded.starts
    space, cache = model.dynamics.space, model.dynamics.transformer.empty_cache(1)
    with torch.no_grad():
        clip = starts.frames.shape[1]
        tokens = [model.tokenizer.encode(frames[None], clip)[0] for frames in starts.frames]
    return {
        "hello": {
            "world": card.name,
            "worlds": [card.name],
            "drivers": [],
            "actions": list(card.action_meanings),
            "idle": idle_action(card.action_meanings),
            "game": card.env_id,
            "size": card.frame_size,
            "grid": space.grid[0],
        },
        "size": card.frame_size,
        "graphs": graphs,
        "onePass": "predict" in graphs,
        "outcomes": card.outcomes,
        "rewards": list(model.rewards),
        "sampling": asdict(model.sampling),
        "space": {
            "numTokens": space.num_tokens,
            "numCodes": space.num_codes,
            "groupStart": space.group_start,
        },
        "ring": [len(cache.keys), *cache.keys.shape[2:]],
        "tails": list(cache.tails[:, 0, 0].shape),
        "clip": clip,
        "starts": [
            {"actions": actions.tolist(), "tokens": known.tolist()}
            for actions, known in zip(starts.actions, tokens, strict=True)
        ],
    }

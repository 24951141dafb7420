"""The card ``world.json``: the metadata of a world bundle. Reading a card does not load torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "BundleError", "WorldCard", "check_files", "file_record"]

FORMAT = 2
CARD, README = "world.json", "README.md"

MAX_BYTES = 1 << 20  # maximum size of a card
MAX_NUMBER = 1 << 16  # largest number in a configuration; no model needs a larger one
_MAX = {"num_layers": 256, "steps": 1000}  # limits for layers and sampling passes


class BundleError(ValueError):
    """A world bundle is damaged, incomplete, or in another format version."""


@dataclass(frozen=True, kw_only=True)
class WorldCard:
    """The metadata of a world model.

    Attributes:
        name: The name that the world was made with. Its env id has the name of the bundle's folder,
            which can be another one.
        action_set: Name of the action set.
        action_meanings: Name of each action.
        env_id: Gymnasium id of the real env that the world was trained on.
        env_kwargs: Keyword arguments that the real env was made with.
        tokenizer: Configuration of the tokenizer.
        dynamics: Configuration of the dynamics model.
        latent_action: Configuration of the latent action model; None if there is no such model.
        sampling: Default `SamplingConfig`.
        storage: How matrices are stored: "float32", "bfloat16" or "int8".
        provenance: Data, training runs and software versions from which the weights come.
        scores: Measured scores by name.
        files: Size in bytes and SHA-256 of every other file in the bundle, except the README.
        outcomes: Whether the world predicts rewards and terminations. If not, its outcome head is
            untrained.
        rewards: The distinct rewards in the training data, ascending; empty if they are unknown or
            too many.
        rounded_rewards: Whether the world rounds the reward that it expects to the nearest of
            `rewards`.
        format: Version of the bundle format.
    """

    name: str
    action_set: str
    action_meanings: tuple[str, ...]
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    dynamics: dict[str, Any] = field(default_factory=dict)
    latent_action: dict[str, Any] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    storage: str = "float32"
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: bool = True
    rewards: tuple[float, ...] = ()
    rounded_rewards: bool = False
    format: int = FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "action_meanings", tuple(self.action_meanings))
        object.__setattr__(self, "rewards", tuple(sorted(map(float, self.rewards))))
        if self.rounded_rewards and not self.rewards:
            raise ValueError("rounded_rewards needs rewards, but none are listed")

    @property
    def num_actions(self) -> int:
        """Size of the action set."""
        return len(self.action_meanings)

    @property
    def frame_size(self) -> int:
        """Height and width of the world's frames, in pixels."""
        return int(self.tokenizer["frame_size"])

    def to_json(self) -> str:
        """Return the text of ``world.json``, including a checksum of all other entries."""
        values = asdict(self)
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1) + "\n"

    @staticmethod
    def read(folder: Path) -> WorldCard:
        """Read the card of a bundle.

        Raises:
            BundleError: If there is no card, or if it is damaged or has another format version.
        """
        path = folder / CARD
        if not path.is_file():
            raise BundleError(f"{folder} is not a world: it has no {CARD}")
        try:
            if (size := path.stat().st_size) > MAX_BYTES:
                raise BundleError(
                    f"{path} has {size:,} bytes; the limit for a card is {MAX_BYTES:,}"
                )
            values = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as fault:
            raise BundleError(f"{path} cannot be read: {fault}") from None
        return _checked(path, values)


def file_record(path: Path) -> dict[str, Any]:
    """Return the size and SHA-256 checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the size and checksum of every file against the card.

    Raises:
        BundleError: If a file is missing or differs; the message names the first such file.
    """
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; copy the whole directory again")
        if path.stat().st_size != record["bytes"]:
            raise BundleError(
                f"{path} has {path.stat().st_size:,} bytes, but {CARD} says {record['bytes']:,}: "
                "it was truncated or replaced; copy it again"
            )
        if file_record(path)["sha256"] != record["sha256"]:
            raise BundleError(
                f"{path} does not have the checksum listed in {CARD}: it was changed or damaged; "
                "copy it again"
            )


def _checked(path: Path, values: Any) -> WorldCard:
    if not isinstance(values, dict) or "format" not in values:
        raise BundleError(f'{path} is not a world card: it has no "format"')
    if values["format"] != FORMAT:
        raise BundleError(
            f"{path} has format {values['format']!r}, but this version of genie-gym reads "
            f"{FORMAT}; install the version of genie-gym that wrote it, or a newer one"
        )
    if values.pop("checksum", None) not in (None, _checksum(values)):
        raise BundleError(
            f"{path} does not match its own checksum: it was changed or damaged; copy it again"
        )
    names = {f.name for f in fields(WorldCard)}
    if unknown := sorted(values.keys() - names):
        raise BundleError(
            f"{path} has unknown entries {unknown}; upgrade genie-gym, or remove the entries"
        )
    try:
        card = WorldCard(**values)
    except (TypeError, ValueError) as fault:
        raise BundleError(f"{path} is incomplete: {fault}") from None
    _check_types(path, card)
    for name in ("tokenizer", "dynamics", "latent_action", "sampling"):
        _check_numbers(path, name, getattr(card, name))
    if not all(map(math.isfinite, card.rewards)):
        raise BundleError(f"{path}: rewards must be finite, got {card.rewards}")
    # Cards of earlier versions list the README, which users may edit.
    return replace(card, files={name: card.files[name] for name in card.files if name != README})


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_types(path: Path, card: WorldCard) -> None:
    for entry in fields(WorldCard):
        value, kind = getattr(card, entry.name), str(entry.type)
        expected = {"dict": dict, "str": str, "bool": bool}.get(kind.partition("[")[0])
        if kind.endswith("None") and value is None or expected is None:
            continue
        if not isinstance(value, expected):
            raise BundleError(f"{path}: {entry.name} must be a {expected.__name__}, got {value!r}")
    for name, record in card.files.items():
        if Path(name).name != name:
            raise BundleError(f"{path} names the file {name!r}, which is outside the bundle")
        if not isinstance(record, dict) or not {"bytes", "sha256"} <= record.keys():
            raise BundleError(f"{path}: files.{name} needs bytes and sha256, got {record!r}")


def _check_numbers(path: Path, name: str, value: Any) -> None:
    """Raise BundleError if a number in a configuration is too large for any model."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(path, f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_numbers(path, name, inner)
    elif isinstance(value, int | float):
        most = _MAX.get(name.rpartition(".")[2], MAX_NUMBER)
        if not abs(value) <= most:  # written so that NaN is refused, too
            raise BundleError(f"{path}: {name} must be at most {most:,}, got {value}")

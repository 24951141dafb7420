"""Imports and exports Minari datasets (requires the `minari` extra).

Minari up to 0.5.3 stores uint8 images of shape (H, W, 3) as JPEG, but stores channel-first arrays
losslessly in HDF5. So frames are exported channel-first, and the import restores them exactly.
Images that Minari stored as JPEG are decoded and imported with their compression loss.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from genie_gym.envs.frames import fit_square
from world_models.episodes import Episode, EpisodeDataset, EpisodeInfo, EpisodeWriter
from world_models.episodes.manifest import read_manifest
from world_models.extras import require

INFO_ATTRIBUTE = "genie_gym_info"


@dataclass(frozen=True, kw_only=True)
class MinariSource:
    """A dataset to import, and the names to record for its episodes.

    Attributes:
        dataset: Id of a local Minari dataset, or its directory.
        image_key: Key of the image in a Dict observation; optional if there is only one image.
        frame_size: Pad frames to a square and resize it to this side length; by default frames keep
            their size.
        action_meanings: Names of the actions; by default `action_0`, `action_1`, ...
        action_set: Name of the action set to record.
    """

    dataset: str
    image_key: str | None = None
    frame_size: int | None = None
    action_meanings: tuple[str, ...] = ()
    action_set: str = "imported"

    def __post_init__(self) -> None:
        if self.frame_size is not None and self.frame_size < 1:
            raise ValueError(f"frame_size must be positive, got {self.frame_size}")


def export_minari(dataset: EpisodeDataset, minari_id: str) -> Path:
    """Write the episodes as a new local Minari dataset, losslessly.

    Args:
        dataset: Episodes with the same frame shape and action set.
        minari_id: Id of the new dataset, e.g. ``"coinrun/random-v0"``.

    Returns:
        Directory of the Minari dataset.
    """
    minari = _minari()
    height, width, channels = dataset.frame_shape
    space = gym.spaces.Box(0, 255, (channels, height, width), np.uint8)
    buffers = (_to_buffer(dataset.episode(i)) for i in range(len(dataset)))
    exported = minari.create_dataset_from_buffers(
        minari_id,
        buffer=[next(buffers)],
        observation_space=space,
        action_space=gym.spaces.Discrete(dataset.num_actions),
        algorithm_name=", ".join(sorted({entry.info.policy for entry in dataset.entries})),
        description="Frames are channel-first (3, H, W) so that Minari keeps them without loss.",
        data_format="hdf5",
    )
    for buffer in buffers:
        exported.update_dataset_from_buffer([buffer])
    infos = [{INFO_ATTRIBUTE: json.dumps(entry.info.to_json())} for entry in dataset.entries]
    exported.storage.update_episode_metadata(infos)
    if not np.array_equal(_to_frames(exported[0].observations), dataset.episode(0).frames):
        raise RuntimeError(
            f"Minari {minari.__version__} did not store the frames losslessly: remove the dataset "
            f"with `minari delete {minari_id}` and use Minari 0.5.3"
        )
    return Path(exported.storage.data_path)


def import_minari(source: MinariSource, out: Path) -> int:
    """Add every episode of a Minari image dataset to `out`, except episodes already in it.

    Returns:
        Number of episodes added.
    """
    minari = _minari()
    path = Path(source.dataset)
    data = (
        minari.MinariDataset(path / "data" if (path / "data").is_dir() else path)
        if (path.is_dir())
        else minari.load_dataset(source.dataset)
    )
    key, space = _image_space(data.observation_space, source.image_key)
    if _is_jpeg(space):
        warnings.warn(
            f"Minari stored the frames of {data.id} as JPEG: a model trained on them cannot exceed "
            "a PSNR of about 28 to 32 dB against the real env",
            stacklevel=2,
        )
    records = read_manifest(out).records
    known = {_origin(entry.info) for record in records for entry in record.entries}
    added = 0
    with EpisodeWriter(out, name="minari") as writer:
        for episode in _episodes(data, source, key, known):
            writer.add(episode)
            added += 1
    return added


def _minari() -> Any:
    return require("minari", extra="minari", what="Minari datasets need Minari")


def _to_buffer(episode: Episode) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    return EpisodeBuffer(
        seed=episode.info.seed,
        observations=np.ascontiguousarray(episode.frames.transpose(0, 3, 1, 2)),
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=ends[0],
        truncations=ends[1],
        infos={},
    )


def _image_space(space: gym.Space, key: str | None) -> tuple[str | None, gym.Space]:
    """Returns the key of the image (None if the observation is not a Dict) and its space."""
    if isinstance(space, gym.spaces.Dict):
        images = [name for name, part in space.items() if _is_image(part)]
        if key is None and len(images) == 1:
            key = images[0]
        if key not in images:
            raise ValueError(f"image_key must be one of the image entries {images}, got {key!r}")
        return key, space[key]
    if not _is_image(space):
        raise ValueError(f"observations must be uint8 images, got {space}")
    return None, space


def _is_image(space: gym.Space) -> bool:
    if not isinstance(space, gym.spaces.Box) or space.dtype != np.uint8:
        return False
    shape = space.shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[-1] in (1, 3) or shape[0] in (1, 3)))


def _is_jpeg(space: gym.Space) -> bool:
    from minari.dataset.minari_storage import is_image_space

    return bool(is_image_space(space))


def _episodes(
    data: Any, source: MinariSource, key: str | None, known: Container[str]
) -> Iterator[Episode]:
    """Yields the episodes whose origin is not in `known`."""
    space = data.action_space
    if not isinstance(space, gym.spaces.Discrete):
        raise ValueError(
            "the action space must be Discrete, because a world model needs named actions, got "
            f"{space}"
        )
    meanings = source.action_meanings or tuple(f"action_{n}" for n in range(space.n))
    metadata = data.storage.get_episode_metadata(data.episode_indices)
    for number, (item, values) in enumerate(zip(data, metadata, strict=True)):
        info = _info(data, source, meanings, values, number)
        if _origin(info) in known:
            continue
        frames = _to_frames(item.observations if key is None else item.observations[key])
        if source.frame_size is not None:
            frames = np.stack([fit_square(frame, source.frame_size) for frame in frames])
        if np.any(item.terminations[:-1]) or np.any(item.truncations[:-1]):
            raise ValueError(
                f"episode {item.id} of {data.id} has steps after it ended: split the episode there"
            )
        yield Episode(
            frames=frames,
            actions=np.asarray(item.actions) - space.start,
            rewards=np.asarray(item.rewards, np.float32),
            terminated=bool(item.terminations[-1]),
            truncated=bool(item.truncations[-1]),
            info=info,
        )


def _info(
    data: Any, source: MinariSource, meanings: tuple[str, ...], values: dict, number: int
) -> EpisodeInfo:
    if INFO_ATTRIBUTE in values:
        return EpisodeInfo(**json.loads(values[INFO_ATTRIBUTE]))
    seed = values.get("seed")
    return EpisodeInfo(
        env_id=data.env_spec.id if data.env_spec else f"Minari/{data.id}",
        action_set=source.action_set,
        action_meanings=meanings,
        seed=None if seed is None else int(seed),
        index=number,
        policy=data.storage.metadata.get("algorithm_name") or "imported",
        extra={"imported_from": f"minari:{data.id}"},
    )


def _origin(info: EpisodeInfo) -> str:
    """Returns an episode's identity: the dataset it was imported from and its number there.

    For an episode that this package collected, the identity is all of its metadata.
    """
    if "imported_from" in info.extra:
        return f"{info.extra['imported_from']} {info.index}"
    return json.dumps(info.to_json(), sort_keys=True)


def _to_frames(images: np.ndarray) -> np.ndarray:
    """Converts grey or colour images, channels first or last, to (T, H, W, 3)."""
    images = np.asarray(images, np.uint8)
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[-1] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))

"""Stores episodes on disk and reads short windows of them (see docs/episodes.md).

Episodes are written once and are never lost. Reading requires numpy, h5py and numcodecs; writing
also requires OpenCV. Only :mod:`world_models.episodes.loader` requires torch.
"""

from world_models.episodes.dataset import EpisodeDataset
from world_models.episodes.episode import Episode, EpisodeInfo, Transitions, code_version
from world_models.episodes.errors import DamagedShardError, StorageError
from world_models.episodes.manifest import existing_indices, existing_infos
from world_models.episodes.merge import merge
from world_models.episodes.sampler import WindowSampler, sequential_windows
from world_models.episodes.shard import Chunk, EncodedEpisode, EpisodeEncoder, encode_episode
from world_models.episodes.verify import Report, verify
from world_models.episodes.writer import EpisodeWriter

__all__ = [
    "Chunk",
    "DamagedShardError",
    "EncodedEpisode",
    "Episode",
    "EpisodeDataset",
    "EpisodeEncoder",
    "EpisodeInfo",
    "EpisodeWriter",
    "Report",
    "StorageError",
    "Transitions",
    "WindowSampler",
    "code_version",
    "encode_episode",
    "existing_indices",
    "existing_infos",
    "merge",
    "sequential_windows",
    "verify",
]

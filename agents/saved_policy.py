"""Trained policies on disk as safetensors and JSON, and as players for `genie-gym collect`.

A folder holds ``policy.safetensors`` (weights) and ``policy.json`` (what is needed to build the
network and to know where it may play). Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy

from agents.autoexplore import AutoExplorePolicy
from agents.networks import FEATURES
from genie_gym.actions import ActionSet
from world_models.files import atomic_file, write_json

__all__ = [
    "PolicyCard",
    "SavedPolicy",
    "build_policy",
    "load_policy",
    "save_policy",
]

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PolicyCard:
    """What a saved policy is.

    Attributes:
        env_id: The env it was trained in.
        action_set: The action set its outputs mean.
        action_meanings: The meaning of each output.
        frame_shape: Shape (H, W, C) of the frames it sees.
        features: Name of its feature extractor, a key of `agents.networks.FEATURES`.
        memory: Width of its LSTM; 0 if it acts on each frame alone.
        observes: Env arguments that change what it sees, e.g. ``{"velocity_map": True}``.
        training: How it was trained, for the record.
        format: Version of this format.
    """

    env_id: str
    action_set: str
    action_meanings: tuple[str, ...]
    frame_shape: tuple[int, int, int]
    features: str
    memory: int = 0
    observes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"policy format {self.format}: this version reads {_FORMAT}")
        if self.features not in FEATURES:
            raise ValueError(f"unknown features {self.features!r}: one of {sorted(FEATURES)}")
        object.__setattr__(self, "action_meanings", tuple(self.action_meanings))
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))


def build_policy(card: PolicyCard) -> ActorCriticPolicy:
    """The network that a card describes, with fresh weights."""
    height, width, channels = card.frame_shape
    frames = spaces.Box(0, 255, (channels, height, width), np.uint8)
    actions = spaces.Discrete(len(card.action_meanings))
    options: dict[str, Any] = {"features_extractor_class": FEATURES[card.features]}
    if card.memory:
        return AutoExplorePolicy(
            frames, actions, lambda _: 0.0, lstm_hidden_size=card.memory, **options
        )
    return ActorCriticCnnPolicy(frames, actions, lambda _: 0.0, **options)


def save_policy(folder: Path, card: PolicyCard, network: ActorCriticPolicy) -> None:
    """Writes a policy; a reader never sees half of it, since the card comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "policy.safetensors") as part:
        save_model(network, str(part))  # knows that actor and critic share the features
    write_json(folder / "policy.json", asdict(card))


def load_card(folder: Path) -> PolicyCard:
    """Reads a policy's card.

    Raises:
        ValueError: If the folder has none, or it cannot be used.
    """
    path = folder / "policy.json"
    try:
        return PolicyCard(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{folder} is no saved policy: it has no policy.json") from None
    except (TypeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path} is not a policy card: {fault}") from None


def load_policy(
    folder: Path,
    *,
    actions: ActionSet,
    env_kwargs: Mapping[str, Any],
    num_envs: int,
    temperature: float = 1.0,
) -> SavedPolicy:
    """Loads a saved policy to play with in an env.

    Raises:
        ValueError: If it is damaged, or was trained for other actions or other observations.
    """
    card = load_card(folder)
    if card.action_meanings != actions.meanings:
        raise ValueError(
            f"{folder} was trained with action set {card.action_set!r}, the env has "
            f"{actions.name!r}: give the env action_set={card.action_set!r}"
        )
    for key, value in card.observes.items():
        if env_kwargs.get(key) != value:
            raise ValueError(
                f"{folder} was trained on frames made with {key}={value}: "
                f"add --env-kwargs {key} {str(value).lower()}"
            )
    network = build_policy(card)
    try:
        load_model(network, folder / "policy.safetensors")
    except (OSError, SafetensorError, RuntimeError) as fault:
        raise ValueError(f"cannot load {folder / 'policy.safetensors'}: {fault}") from None
    return SavedPolicy(network, num_envs=num_envs, temperature=temperature)


class SavedPolicy:
    """Plays with a trained network; each row samples with its own episode's generator."""

    def __init__(self, network: ActorCriticPolicy, *, num_envs: int, temperature: float):
        self._network = network.eval()
        self._temperature = temperature
        self._rngs = [np.random.default_rng(0) for _ in range(num_envs)]
        self._never = torch.zeros(num_envs)  # no episode begins within a call of the network
        self._memory: tuple[torch.Tensor, ...] = ()
        if isinstance(network, RecurrentActorCriticPolicy):
            layers, _, width = network.lstm_hidden_state_shape
            self._memory = tuple(torch.zeros(layers, num_envs, width) for _ in range(2))

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """The row remembers nothing and samples from this generator from now on."""
        self._rngs[row] = rng
        for part in self._memory:
            part[:, row] = 0

    @torch.no_grad()
    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Samples one action per row; temperature 0 takes the likeliest."""
        observations = torch.from_numpy(frames).permute(0, 3, 1, 2)
        logits = self._logits(observations).double()
        if self._temperature == 0:
            return logits.argmax(1).numpy()
        thresholds = np.array([rng.random() for rng in self._rngs])[:, None]
        cumulative = (logits / self._temperature).softmax(1).cumsum(1).numpy()
        return (cumulative < thresholds * cumulative[:, -1:]).sum(1)

    def _logits(self, observations: torch.Tensor) -> torch.Tensor:
        network: Any = self._network
        if not self._memory:
            return network.get_distribution(observations).distribution.logits
        distribution, self._memory = network.get_distribution(
            observations, self._memory, self._never
        )
        return distribution.distribution.logits

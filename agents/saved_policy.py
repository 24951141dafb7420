"""Saves trained policies as safetensors and JSON, and loads them for `genie-gym collect`.

The folder of a policy has two files: ``policy.safetensors`` (weights) and ``policy.json`` (the
settings of the network and of the env it was trained in). Nothing is pickled.
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
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.autoexplore import AutoExplorePolicy
from agents.networks import FEATURES, ChannelsLastCnnPolicy
from genie_gym.actions import ActionSet
from genie_gym.wrappers.stack import stacked
from world_models.files import atomic_file, write_json

__all__ = [
    "PolicyCard",
    "SavedPolicy",
    "build_policy",
    "load_card",
    "load_policy",
    "save_policy",
]

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PolicyCard:
    """Description of a saved policy.

    Attributes:
        env_id: Id of the env that the policy was trained in.
        action_set: Name of the action set that the policy was trained with.
        action_meanings: The meaning of each action index.
        frame_shape: Shape (H, W, C) of the env's frames.
        stack: Number of newest frames that the policy sees at once.
        features: Name of the feature extractor, a key of `agents.networks.FEATURES`.
        memory: Hidden size of the LSTM; 0 for no LSTM.
        observes: Env arguments that change what the policy sees, e.g. ``{"velocity_map": True}``.
        training: How the policy was trained, for the record.
        format: Version of the file format.
    """

    env_id: str
    action_set: str
    action_meanings: tuple[str, ...]
    frame_shape: tuple[int, int, int]
    features: str
    stack: int = 1
    memory: int = 0
    observes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(
                f"expected a policy of format {_FORMAT}, got format {self.format}: train it again "
                "with this version"
            )
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {sorted(FEATURES)}, got {self.features!r}")
        object.__setattr__(self, "action_meanings", tuple(self.action_meanings))
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))


def build_policy(card: PolicyCard) -> ActorCriticPolicy:
    """Builds the network that a card describes, with untrained weights."""
    height, width, channels = card.frame_shape
    frames = spaces.Box(0, 255, (channels * card.stack, height, width), np.uint8)
    actions = spaces.Discrete(len(card.action_meanings))
    options: dict[str, Any] = {"features_extractor_class": FEATURES[card.features]}
    if card.memory:
        return AutoExplorePolicy(
            frames, actions, lambda _: 0.0, lstm_hidden_size=card.memory, **options
        )
    return ChannelsLastCnnPolicy(frames, actions, lambda _: 0.0, **options)


def save_policy(folder: Path, card: PolicyCard, network: ActorCriticPolicy) -> None:
    """Saves a policy; the card is written last, so a reader never sees a partial policy."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "policy.safetensors") as part:
        save_model(network, str(part))  # handles tensors shared by actor and critic
    write_json(folder / "policy.json", asdict(card))


def collect_command(
    env_id: str, policy: Path, env_kwargs: Mapping[str, Any], options: str = ""
) -> str:
    """Returns the command that collects episodes of the real game with a saved policy."""
    shown = {key: str(x).lower() if isinstance(x, bool) else x for key, x in env_kwargs.items()}
    pairs = "".join(f" {key} {value}" for key, value in shown.items())
    kwargs = f" --env-kwargs{pairs}" if pairs else ""
    return f"genie-gym collect {env_id} --policy {policy}{options}{kwargs} --out DIR"


def load_card(folder: Path | str) -> PolicyCard:
    """Reads a policy's card.

    Raises:
        ValueError: If the folder has no card, or an invalid one.
    """
    path = Path(folder) / "policy.json"
    try:
        return PolicyCard(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a saved policy: it has no policy.json") from None
    except (TypeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path} is not a valid policy card: {fault}") from None


def load_policy(
    folder: Path | str,
    *,
    actions: ActionSet,
    env_kwargs: Mapping[str, Any],
    num_envs: int,
    temperature: float = 1.0,
) -> SavedPolicy:
    """Loads a saved policy for use in an env.

    Raises:
        ValueError: If the policy is damaged, or was trained with other actions or observations.
    """
    card = load_card(folder)
    if card.action_meanings != actions.meanings:
        raise ValueError(
            f"{folder} was trained with action_set={card.action_set!r}, but the env has "
            f"action_set={actions.name!r}: make the env with action_set={card.action_set!r}"
        )
    for key, value in card.observes.items():
        if env_kwargs.get(key) != value:
            raise ValueError(
                f"{folder} was trained on frames made with {key}={value}: "
                f"add --env-kwargs {key} {str(value).lower()}"
            )
    network, weights = build_policy(card), Path(folder) / "policy.safetensors"
    try:
        load_model(network, weights)
    except (OSError, SafetensorError, RuntimeError) as fault:
        raise ValueError(f"cannot load {weights}: {fault}") from None
    return SavedPolicy(network, num_envs=num_envs, temperature=temperature, stack=card.stack)


class SavedPolicy:
    """A trained policy that plays in a vector env.

    Each sub-env, called row, samples with the random generator of its current episode. The policy
    computes on the device of its network.

    Args:
        network: The policy's network.
        num_envs: Number of sub-envs.
        temperature: Temperature of the action distribution; 0 takes the most likely action.
        stack: Number of frames that the network sees at once.
    """

    def __init__(
        self, network: ActorCriticPolicy, *, num_envs: int, temperature: float, stack: int = 1
    ):
        self._stack = stack
        self._last: list[NDArray[np.uint8] | None] = [None] * num_envs
        self._network = network.eval()
        self._temperature = temperature
        self._rngs = [np.random.default_rng(0) for _ in range(num_envs)]
        device = network.device
        self._no_starts = torch.zeros(num_envs, device=device)  # `begin` resets the memory instead
        self._memory: tuple[torch.Tensor, ...] = ()
        if isinstance(network, RecurrentActorCriticPolicy):
            layers, _, width = network.lstm_hidden_state_shape
            shape = (layers, num_envs, width)
            self._memory = tuple(torch.zeros(shape, device=device) for _ in range(2))

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode in a row: clears the row's memory and sets its random generator."""
        self._rngs[row] = rng
        self._last[row] = None
        for part in self._memory:
            part[:, row] = 0

    @torch.no_grad()
    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Samples one action per row; temperature 0 takes the most likely one."""
        for row, frame in enumerate(frames):
            last = self._last[row]
            known = frame[None] if last is None else np.concatenate((last, frame[None]))
            self._last[row] = known[-self._stack :]
        seen = [stacked(last, self._stack) for last in self._last if last is not None]
        observations = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        logits = self._logits(observations).cpu().double()
        if self._temperature == 0:
            return logits.argmax(1).numpy()
        thresholds = np.array([rng.random() for rng in self._rngs])[:, None]
        cumulative = (logits / self._temperature).softmax(1).cumsum(1).numpy()
        return (cumulative < thresholds * cumulative[:, -1:]).sum(1)

    def _logits(self, observations: torch.Tensor) -> torch.Tensor:
        network: Any = self._network
        observations = observations.to(network.device)
        if not self._memory:
            return network.get_distribution(observations).distribution.logits
        distribution, self._memory = network.get_distribution(
            observations, self._memory, self._no_starts
        )
        return distribution.distribution.logits

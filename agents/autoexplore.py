"""The network of the AutoExplore agent: it sees one frame at a time and remembers the others."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from agents.networks import SmallCNN

__all__ = ["AutoExplorePolicy", "outputs"]


class AutoExplorePolicy(RecurrentActorCriticPolicy):
    """Four convolutions, an LSTM, and on it a linear actor and a linear critic.

    For sb3-contrib's RecurrentPPO, by name: ``RecurrentPPO("AutoExplorePolicy", env)``. Actor and
    critic both train the network below them.

    Args:
        observation_space: Frames; Stable-Baselines3 hands them over channels first.
        action_space: Any that Stable-Baselines3 has a distribution for.
        lr_schedule: Learning rate by remaining progress.
        **options: Other settings of ``RecurrentActorCriticPolicy``, such as ``lstm_hidden_size``.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        **options: Any,
    ):
        network: dict[str, Any] = {
            "features_extractor_class": SmallCNN,
            "lstm_hidden_size": 512,
            "net_arch": [],
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            shared_lstm=True,
            enable_critic_lstm=False,
            **{**network, **options},
        )

    def evaluate_actions(  # type: ignore[override]
        self,
        obs: Tensor,
        actions: Tensor,
        lstm_states: RNNStates,
        episode_starts: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Value of each observation, log-probability of its action, entropy of all actions.

        Unlike the base class's, the values have a gradient down to the pixels.
        """
        features: Any = self.extract_features(obs)
        latent = outputs(self.lstm_actor, features, lstm_states.pi, episode_starts)
        distribution = self._get_action_dist_from_latent(latent)
        entropy = distribution.entropy()
        assert entropy is not None  # discrete actions always have one
        return self.value_net(latent), distribution.log_prob(actions), entropy


def outputs(
    lstm: nn.LSTM, features: Tensor, states: tuple[Tensor, ...], episode_starts: Tensor
) -> Tensor:
    """What an LSTM makes of sequences in which episodes begin, all in one call of it.

    Args:
        lstm: With one layer or more, not batch first.
        features: ``(sequences * steps, F)``, one sequence after the other.
        states: Hidden and cell state before each sequence ``(layers, sequences, H)``.
        episode_starts: 1 where an episode begins ``(sequences * steps,)``; nothing before it is
            remembered.

    Returns:
        ``(sequences * steps, H)``.
    """
    begins = episode_starts.view(states[0].shape[1], -1) > 0
    cuts = begins.clone()
    cuts[:, 0] = True
    piece = cuts.flatten().cumsum(0) - 1  # the pieces between cuts become the batch
    lengths = piece.bincount()
    first = piece.view_as(cuts)[:, 0]
    before = [x.new_zeros(x.shape[0], len(lengths), x.shape[2]) for x in states]
    for whole, given in zip(before, states, strict=True):
        whole[:, first] = given * ~begins[:, 0, None]
    padded = pad_sequence(list(features.split(lengths.tolist())))  # (longest, pieces, F)
    found, _ = lstm(padded, (before[0], before[1]))
    real = torch.arange(len(padded), device=lengths.device) < lengths[:, None]
    return found.transpose(0, 1)[real]

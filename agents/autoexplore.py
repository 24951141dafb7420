"""The network for the AutoExplore agent: it sees one frame per step and remembers with an LSTM."""

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

__all__ = ["AutoExplorePolicy", "run_lstm"]


class AutoExplorePolicy(RecurrentActorCriticPolicy):
    """Four convolutions and an LSTM, followed by a linear actor and a linear critic.

    Use it with sb3-contrib by name: ``RecurrentPPO("AutoExplorePolicy", env)``. The actor loss
    and the critic loss both train the shared layers.

    Args:
        observation_space: Space of the frames; Stable-Baselines3 passes frames channels first.
        action_space: Any space that Stable-Baselines3 has a distribution for.
        lr_schedule: Maps the remaining progress (1 to 0) to the learning rate.
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
        """Return the value, the log-probability of the action and the entropy for each step.

        Unlike in the base class, the gradient of the values reaches the convolutions.
        """
        features: Any = self.extract_features(obs)
        latent = run_lstm(self.lstm_actor, features, lstm_states.pi, episode_starts)
        distribution = self._get_action_dist_from_latent(latent)
        entropy = distribution.entropy()
        assert entropy is not None  # categorical distributions always have one
        return self.value_net(latent), distribution.log_prob(actions), entropy


def run_lstm(
    lstm: nn.LSTM, features: Tensor, states: tuple[Tensor, ...], episode_starts: Tensor
) -> Tensor:
    """Run an LSTM over sequences with episode boundaries, in a single call of the LSTM.

    Args:
        lstm: An LSTM with ``batch_first=False`` and any number of layers.
        features: Inputs ``(sequences * steps, F)``, one sequence after another.
        states: Hidden and cell state before each sequence, ``(layers, sequences, H)``.
        episode_starts: ``(sequences * steps,)``, with 1 at the first step of each episode, where
            the state is reset to zero.

    Returns:
        The LSTM's outputs ``(sequences * steps, H)``.
    """
    starts = episode_starts.view(states[0].shape[1], -1) > 0
    cuts = starts.clone()
    cuts[:, 0] = True
    segment = cuts.flatten().cumsum(0) - 1  # each segment becomes one batch item
    lengths = segment.bincount()
    first = segment.view_as(cuts)[:, 0]
    initial = [x.new_zeros(x.shape[0], len(lengths), x.shape[2]) for x in states]
    for full, given in zip(initial, states, strict=True):
        full[:, first] = given * ~starts[:, 0, None]
    padded = pad_sequence(list(features.split(lengths.tolist())))  # (longest, segments, F)
    outputs, _ = lstm(padded, (initial[0], initial[1]))
    real = torch.arange(len(padded), device=lengths.device) < lengths[:, None]
    return outputs.transpose(0, 1)[real]

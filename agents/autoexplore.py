"""The network of the AutoExplore agent: it sees one frame at a time and remembers the others."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.type_aliases import Schedule

from agents.networks import SmallCNN

__all__ = ["AutoExplorePolicy"]


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
        obs: torch.Tensor,
        actions: torch.Tensor,
        lstm_states: RNNStates,
        episode_starts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Value of each observation, log-probability of its action, entropy of all actions.

        Unlike the base class's, the values have a gradient down to the pixels.
        """
        features: Any = self.extract_features(obs)
        memory: Any = lstm_states.pi
        latent, _ = self._process_sequence(features, memory, episode_starts, self.lstm_actor)
        distribution = self._get_action_dist_from_latent(latent)
        entropy = distribution.entropy()
        assert entropy is not None  # discrete actions always have one
        return self.value_net(latent), distribution.log_prob(actions), entropy

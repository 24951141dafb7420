"""The stages of ``genie-gym dream-train --rounds``, which improve a world model in rounds.

Each round trains an agent in the dream, collects real episodes with the agent and with other
policies, and fine-tunes the world model. Finally, an agent is trained in the last world model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.dream_config import DreamTrainConfig
from agents.dream_train import dream_train
from agents.loop.parts import Parts
from agents.loop.recipes import LoopRecipe, for_env
from agents.saved_policy import load_card
from genie_gym.build.stages import Stage
from genie_gym.collect.policy_spec import half_by
from genie_gym.envs.loaded_worlds import open_world
from world_models.episodes import EpisodeDataset

__all__ = ["DreamRounds"]

SEED = 4_000_000  # for collecting; `genie-gym build` and the scores use other seeds


class DreamRounds:
    """The rounds of one training run.

    Args:
        config: Settings of the agents and of the rounds.
    """

    def __init__(self, config: DreamTrainConfig):
        self._config, self._out = config, config.out.absolute()
        self._data = self._out / "data"
        self._parts = Parts(recipe=_recipe(config), seed=config.seed)

    def stages(self) -> list[Stage]:
        """Returns all stages in order of dependency."""
        frames, parts = self._config.round_frames, self._parts
        seed = SEED + self._config.seed
        stages = [
            Stage(
                name="mixed-data",
                needs=(),
                run=lambda: parts.collect_frames(self._data, "mixed", frames, seed),
            )
        ]
        for number in range(1, self._config.rounds + 1):
            stages += self._round(number, seed + number)
        return [*stages, self._agent(self._config.rounds + 1)]

    def agent(self, number: int) -> Path:
        """Returns the folder of a round's agent; the final agent has number `rounds` + 1."""
        return self._out / f"round-{number}" / "agent"

    def results(self) -> list[dict[str, Any]]:
        """Returns the saved evaluations of the agents trained so far."""
        folders = map(self.agent, range(1, self._config.rounds + 2))
        return [load_card(folder).training for folder in folders if folder.is_dir()]

    def num_frames(self) -> int:
        """Returns the number of real frames collected so far."""
        return int(EpisodeDataset(self._data).num_frames.sum())

    def _round(self, number: int, seed: int) -> list[Stage]:
        policy = half_by(self.agent(number), "mixed")
        frames = (number + 1) * self._config.round_frames

        def add_data() -> bool:
            return self._parts.collect_frames(self._data, policy, frames, seed)

        prefix, folder = f"{number}-", self._out / f"round-{number}"
        after = Path(self._world(number))
        return [
            self._agent(number),
            Stage(name=f"{prefix}data", needs=(f"{prefix}agent",), run=add_data),
            *self._parts.fine_tuning(prefix, folder, self._data, self._world(number - 1), after),
        ]

    def _agent(self, number: int) -> Stage:
        def run() -> bool:
            dream_train(self._agent_config(number))
            return True

        needs = "mixed-data" if number == 1 else f"{number - 1}-world"
        return Stage(name=f"{number}-agent", needs=(needs,), run=run)

    def _agent_config(self, number: int) -> DreamTrainConfig:
        return replace(
            self._config,
            world=self._world(number - 1),
            out=self.agent(number),
            starts=self._data,
            rounds=0,
        )

    def _world(self, number: int) -> str:
        """Returns the name or path of the world model after a round."""
        if number == 0:
            return self._config.world
        return str(self._out / f"round-{number}" / open_world(self._config.world).card.name)


def _recipe(config: DreamTrainConfig) -> LoopRecipe:
    """Returns the recipe for the world model's game, with the sizes of the stages."""
    card = open_world(config.world).card
    return replace(
        for_env(card.env_id),
        name=card.name,
        decoder_steps=max(1, config.round_steps // 4),
        dynamics_steps=config.round_steps,
        env_kwargs={key: str(value) for key, value in card.env_kwargs.items()},
    )

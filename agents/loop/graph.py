"""The stages of the loop, with two variants that differ only in the policy that collects data.

* The variant ``explored`` collects data with an AutoExplore agent. In each round, the agent is
  trained on the uncertainty of this variant's latest world model.
* The variant ``control`` collects the same number of frames with random play.

Each variant fine-tunes the tokenizer's decoder and the dynamics on its own data. The world models
of both variants are evaluated on a separate dataset.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.explore import explore
from agents.loop.evaluate import evaluate_world
from agents.loop.parts import Parts
from agents.loop.recipes import LoopRecipe
from genie_gym.build.stages import Stage
from world_models.episodes import EpisodeDataset
from world_models.files import write_json

__all__ = ["ARMS", "Loop", "scores"]

ARMS = ("explored", "control")
_TEST_SEED = 900_000  # seed offset for the held-out set
_ARM_SEED = {"explored": 1_000, "control": 500_000}  # seed offset per round


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Rounds of exploring with an agent and fine-tuning a world model, for one game.

    Attributes:
        recipe: The game, and the size of each stage.
        out: Folder for datasets, agents, world models and scores.
        rounds: Number of rounds of exploring and fine-tuning.
        seed: Seed of all randomness.
        world: Name or path of the world model to start from. By default, a new world model is
            trained on random play.
        test_data: Folder of the held-out dataset. By default, an agent that is trained on the
            game's own reward collects this dataset.
    """

    recipe: LoopRecipe
    out: Path
    rounds: int = 1
    seed: int = 0
    world: str | None = None
    test_data: Path | None = None

    def stages(self) -> list[Stage]:
        """Returns all stages in order of dependency."""
        stages = [
            *self._test_set(),
            *self._first_world(),
            self._evaluation("evaluation", self._base(), () if self.world else ("world",)),
        ]
        for number in range(1, self.rounds + 1):
            for arm in ARMS:
                stages += self._round(arm, number)
        return stages

    @property
    def parts(self) -> Parts:
        """The functions that do the work of the stages."""
        return Parts(recipe=self.recipe, seed=self.seed)

    # Groups of stages -----------------------------------------------------------------------------

    def _test_set(self) -> list[Stage]:
        if self.test_data is not None:
            return []
        return [
            Stage(name="test-agent", needs=(), run=self._train_test_agent),
            Stage(name="test-data", needs=("test-agent",), run=self._collect_test),
        ]

    def _first_world(self) -> list[Stage]:
        if self.world is not None:
            return []
        data, out = self.out / "data" / "random", self.out
        training = self.recipe.training

        def tokenizer() -> bool:
            return self.parts.tokenizer(data, out / "tokenizer", None, training.tokenizer.fit)

        def dynamics() -> bool:
            return self.parts.dynamics(
                data, out / "dynamics", out / "tokenizer", None, training.dynamics.fit
            )

        def world() -> bool:
            return self.parts.bundle(data, out / "tokenizer", out / "dynamics", Path(self._base()))

        def random() -> bool:
            recipe = self.recipe
            return self.parts.collect(data, recipe.random_policy, recipe.random_episodes, self.seed)

        return [
            Stage(name="random-data", needs=(), run=random),
            Stage(name="tokenizer", needs=("random-data",), run=tokenizer),
            Stage(name="dynamics", needs=("tokenizer",), run=dynamics),
            Stage(name="world", needs=("dynamics",), run=world),
        ]

    def _round(self, arm: str, number: int) -> list[Stage]:
        recipe, folder = self.recipe, self.out / arm / f"round-{number}"
        before = self._world(arm, number - 1)
        data = self.out / "data" / arm
        agent = folder / "agent"
        prefix = f"{arm}-{number}-"
        earlier = f"{arm}-{number - 1}-world" if number > 1 else "evaluation"
        policy = recipe.random_policy if arm == "control" else str(agent)
        seed = self.seed + _ARM_SEED[arm] * number
        epsilon = 0.0 if arm == "control" else recipe.epsilon

        def train_agent() -> bool:
            config = replace(
                recipe.explorer, out=agent, world=before, seed=seed, env_kwargs=recipe.env_kwargs
            )
            explore(config)
            return True

        def add_data() -> bool:
            frames = number * recipe.round_frames
            return self.parts.collect_frames(data, policy, frames, seed, epsilon)

        agents = [Stage(name=f"{prefix}agent", needs=(earlier,), run=train_agent)]
        return [
            *(agents if arm == "explored" else []),
            Stage(
                name=f"{prefix}data",
                needs=(f"{prefix}agent",) if arm == "explored" else (earlier,),
                run=add_data,
            ),
            *self.parts.fine_tuning(prefix, folder, data, before, Path(self._world(arm, number))),
            self._evaluation(
                f"{prefix}evaluation", self._world(arm, number), (f"{prefix}world",), data
            ),
        ]

    def _evaluation(
        self, name: str, world: str, after: tuple[str, ...], learned: Path | None = None
    ) -> Stage:
        def run() -> bool:
            result = evaluate_world(world, self._test_data(), self.recipe.evaluation)
            if learned is not None:
                result["frames_learned"] = float(EpisodeDataset(learned).num_frames.sum())
            write_json(self.out / "scores" / f"{name}.json", result)
            return True

        tests = () if self.test_data else ("test-data",)
        return Stage(name=name, needs=(*tests, *after), run=run)

    # Parts of the stages -------------------------------------------------------------------

    def _test_data(self) -> Path:
        return self.test_data or self.out / "data" / "test"

    def _base(self) -> str:
        return self.world or str(self.out / "worlds" / self.recipe.name)

    def _world(self, arm: str, number: int) -> str:
        if number == 0:
            return self._base()
        return str(self.out / arm / f"round-{number}" / self.recipe.name)

    def _train_test_agent(self) -> bool:
        kwargs = self.recipe.env_kwargs
        out = self.out / "test-agent"
        explore(replace(self.recipe.test_agent, out=out, seed=self.seed, env_kwargs=kwargs))
        return True

    def _collect_test(self) -> bool:
        agent = str(self.out / "test-agent")
        recipe, seed = self.recipe, self.seed + _TEST_SEED
        return self.parts.collect(
            self._test_data(), agent, recipe.test_episodes, seed, recipe.epsilon
        )


def scores(loop: Loop) -> list[dict[str, Any]]:
    """Returns the scores so far, one dict per evaluated world model."""
    names = [stage.name for stage in loop.stages() if stage.name.endswith("evaluation")]
    files = {
        name.removesuffix("evaluation").strip("-"): loop.out / "scores" / f"{name}.json"
        for name in names
    }
    return [
        {"world": world or "first", **json.loads(file.read_text())}
        for world, file in files.items()
        if file.exists()
    ]

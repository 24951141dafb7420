"""The stages of the loop. Its two arms differ only in the policy that collects.

``explored`` collects with an AutoExplore agent, trained in each round on the uncertainty of the
arm's latest world; ``control`` collects as many frames with random play. Both fine-tune the
tokenizer's decoder and the dynamics, and are evaluated on data that neither arm collected.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.explore import explore
from agents.loop.evaluate import evaluate_world
from agents.loop.recipes import LoopRecipe
from genie_gym.build import work
from genie_gym.build.stages import Stage
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.files import write_json
from world_models.training.config import FitConfig
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["ARMS", "Loop", "scores"]

ARMS = ("explored", "control")
_BLOCK = 20  # episodes that a round adds at a time
_TEST_SEED = 900_000  # offset of the seed for the held-out set
_ARM_SEED = {"explored": 1_000, "control": 500_000}  # offset per round


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop and its folder.

    Attributes:
        recipe: The game, and the size of each stage.
        out: Folder of the loop.
        rounds: Number of rounds of exploring and fine-tuning.
        seed: Seed of all randomness.
        world: Name or path of a world to start from; by default one is trained on random play.
        test_data: Folder of the held-out set; by default an agent is trained on the game's own
            reward and plays it.
    """

    recipe: LoopRecipe
    out: Path
    rounds: int = 1
    seed: int = 0
    world: str | None = None
    test_data: Path | None = None

    def stages(self) -> list[Stage]:
        """Returns all stages, each after the ones it needs."""
        stages = [
            *self._test_set(),
            *self._first_world(),
            self._evaluation("evaluation", self._base(), () if self.world else ("world",)),
        ]
        for number in range(1, self.rounds + 1):
            for arm in ARMS:
                stages += self._round(arm, number)
        return stages

    # The parts -----------------------------------------------------------------------------

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
            return self._tokenizer(data, out / "tokenizer", None, training.tokenizer.fit)

        def dynamics() -> bool:
            return self._dynamics(
                data, out / "dynamics", out / "tokenizer", None, training.dynamics.fit
            )

        def world() -> bool:
            return self._bundle(data, out / "tokenizer", out / "dynamics", Path(self._base()))

        def random() -> bool:
            recipe = self.recipe
            return self._collect(data, recipe.random_policy, recipe.random_episodes, self.seed)

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
        fits = recipe.training.tokenizer.fit, recipe.training.dynamics.fit

        def train_agent() -> bool:
            config = replace(
                recipe.explorer, out=agent, world=before, seed=seed, env_kwargs=recipe.env_kwargs
            )
            explore(config)
            return True

        def add_data() -> bool:
            return self._collect_frames(data, policy, number * recipe.round_frames, seed)

        def tokenizer() -> bool:
            fit = _shortened(fits[0], recipe.decoder_steps)
            return self._tokenizer(data, folder / "tokenizer", before, fit)

        def dynamics() -> bool:
            fit = _shortened(fits[1], recipe.dynamics_steps)
            return self._dynamics(data, folder / "dynamics", folder / "tokenizer", before, fit)

        def world() -> bool:
            after = Path(self._world(arm, number))
            return self._bundle(data, folder / "tokenizer", folder / "dynamics", after)

        agents = [Stage(name=f"{prefix}agent", needs=(earlier,), run=train_agent)]
        return [
            *(agents if arm == "explored" else []),
            Stage(
                name=f"{prefix}data",
                needs=(f"{prefix}agent",) if arm == "explored" else (earlier,),
                run=add_data,
            ),
            Stage(name=f"{prefix}tokenizer", needs=(f"{prefix}data",), run=tokenizer),
            Stage(name=f"{prefix}dynamics", needs=(f"{prefix}tokenizer",), run=dynamics),
            Stage(name=f"{prefix}world", needs=(f"{prefix}dynamics",), run=world),
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
        return self._collect(
            self._test_data(), agent, self.recipe.test_episodes, self.seed + _TEST_SEED
        )

    def _collect(self, data: Path, policy: str, episodes: int, seed: int) -> bool:
        return collect(self._collect_config(data, policy, episodes, seed)) == 0

    def _collect_frames(self, data: Path, policy: str, frames: int, seed: int) -> bool:
        """Adds blocks of episodes until `data` has at least `frames` frames."""
        owns = self._collect_config(data, policy, _BLOCK, seed).collection().owns
        done = len(existing_indices(data, where=owns))
        episodes = _BLOCK * max(1, math.ceil(done / _BLOCK))  # finish a partial block first
        while self._collect(data, policy, episodes, seed):
            if EpisodeDataset(data).num_frames.sum() >= frames:
                return True
            episodes += _BLOCK
        return False

    def _collect_config(self, data: Path, policy: str, episodes: int, seed: int) -> CollectConfig:
        return CollectConfig(
            env=self.recipe.env,
            out=data,
            policy=policy,
            episodes=episodes,
            max_steps=self.recipe.max_steps,
            seed=seed,
            epsilon=0.0 if policy == self.recipe.random_policy else self.recipe.epsilon,
            env_kwargs=self.recipe.env_kwargs,
        )

    def _tokenizer(self, data: Path, out: Path, world: str | None, fit: FitConfig) -> bool:
        recipe = replace(self.recipe.training.tokenizer, fit=replace(fit, seed=self.seed))
        return work.train_tokenizer(recipe, DataOptions(data=data, out=out, from_world=world))

    def _dynamics(
        self, data: Path, out: Path, tokenizer: Path, world: str | None, fit: FitConfig
    ) -> bool:
        recipe = replace(self.recipe.training.dynamics, fit=replace(fit, seed=self.seed))
        options = DynamicsOptions(data=data, out=out, from_world=world, tokenizer=str(tokenizer))
        return work.train_dynamics(recipe, options)

    def _bundle(self, data: Path, tokenizer: Path, dynamics: Path, out: Path) -> bool:
        parts = {"tokenizer": tokenizer, "dynamics": dynamics}
        return work.bundle(out, data=data, storage=self.recipe.storage, **parts)


def scores(loop: Loop) -> list[dict[str, Any]]:
    """Returns the scores so far, one row per evaluated world."""
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


def _shortened(fit: FitConfig, steps: int) -> FitConfig:
    """Returns the same training for `steps` steps, with warm-up and save interval in proportion."""
    share = steps / fit.steps
    return replace(
        fit,
        steps=steps,
        warmup_steps=min(fit.warmup_steps, max(1, round(fit.warmup_steps * share))),
        save_every=min(fit.save_every, max(1, round(fit.save_every * share))),
    )

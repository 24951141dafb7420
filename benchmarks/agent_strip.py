"""Draw an agent's episodes in a dream and in the real game, from the same first frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.returns import make_real, play_out
from benchmarks.players import agents_of
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.pictures import contact_sheet, labelled, scaled, side_by_side, write_png

__all__ = ["write_agent_strip"]

COLUMNS, HEIGHT = 10, 96


def write_agent_strip(world: str, agent: Path, steps: int, path: Path) -> None:
    """Run an agent, and write a PNG with the real game above and the dream below.

    Args:
        world: Name or path of the world model.
        agent: Folder that contains the agent.
        steps: Number of steps to run.
        path: File to write.
    """
    (player,) = agents_of(world, [agent])
    real_env = make_real(world, 1, steps)
    dream_env = GenieVectorEnv(world, autoreset_mode="Disabled", max_episode_steps=steps)
    first, _ = real_env.reset(seed=0)
    dream_env.reset(seed=0, options={"frames": first})
    rows = []
    for name, env in (("real game", real_env), ("dream", dream_env)):
        played = play_out(env, first, player.make(1, steps), seeds=[0], max_steps=steps)
        times = np.linspace(0, len(played.frames) - 1, COLUMNS).round().astype(int)
        strip = side_by_side([scaled(played.frames[t], height=HEIGHT) for t in times])
        title = f"{name}: steps 0 to {times[-1]}, return {round(played.returns[0], 2):g}"
        rows.append(labelled(strip, title))
        env.close()
    write_png(path, contact_sheet(rows, columns=1))

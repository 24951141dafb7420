"""How returns of policies are compared between dream and game: known answers, and real runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from agents.returns import make_real
from benchmarks import ranking, transfer
from benchmarks.dreams.exploits import Exploits
from benchmarks.dreams.rates import Rates, per_1000_steps
from benchmarks.fidelity import FidelityConfig
from benchmarks.matched import find_starts, played_real, responds
from benchmarks.players import Player, agents_of, scripted
from benchmarks.statistics import better_than, iqm, mmrv, pearson, spearman, value_gap
from genie_gym.collect.policies import Planned
from genie_gym.evaluation.turns import MOST_PAIRS, turns
from tests.counting_env import ACTIONS, CountingVectorEnv

REAL = np.array([0.0, 1.0, 2.0, 10.0])


def test_a_dream_that_pays_as_the_game_does_is_perfect():
    assert spearman(REAL, REAL) == pytest.approx(1) and pearson(REAL, REAL) == pytest.approx(1)
    assert mmrv(REAL, REAL) == 0 and value_gap(REAL, REAL) == 0
    assert spearman(REAL**3, REAL) == pytest.approx(1) and pearson(REAL**3, REAL) < 0.99


def test_the_worst_violation_of_each_policy_counts():
    swapped = np.array([0.0, 1.0, 10.0, 2.0])  # the two best change places
    assert mmrv(swapped, REAL) == pytest.approx((8 + 8) / 4 / 10)
    assert mmrv(-REAL, REAL) == pytest.approx((10 + 9 + 8 + 10) / 4 / 10)
    assert value_gap(REAL + 1, REAL) == pytest.approx(0.1)
    assert spearman(np.zeros(4), REAL) == 0  # says nothing
    assert spearman(np.array([1.0, 1, 2, 2]), np.array([5.0, 5, 9, 9])) == pytest.approx(1)


def test_decisions_count_only_where_there_is_a_best():
    real = np.array([[0.0, 1.0], [0, 1], [3, 1], [0, 1], [0, 1]])  # second start: all the same
    dream = np.array([[0.0, 9.0], [0, 1], [2, 1], [1, 1], [0, 1]])
    assert ranking.decisions(dream, real) == (1.0, 1)
    assert ranking.decisions(dream[[2, 0, 1, 3, 4]], real) == (0.0, 1)


def test_intervals_are_over_the_starts():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(12, 40)) + 3 * np.arange(12)[:, None]
    point, low, high = ranking.intervals(spearman, real + rng.normal(size=real.shape), real)
    assert low <= point <= high and low > 0.9
    assert ranking.intervals(spearman, real, real) == (pytest.approx(1),) * 3


def test_statistics_over_seeds():
    mean, low, high = iqm(np.array([[0.0], [1.0], [1.0], [100.0]]))
    assert mean == pytest.approx(1) and low <= mean <= high
    assert better_than([3, 4, 5], [0, 1, 2]) == 1.0 and better_than([1, 1], [1, 1]) == 0.5


def test_overpaid_play_is_found():
    fair = Exploits(returns={"a": (100.0, 90.0), "b": (1.0, 0.0)})
    assert fair.figures() == {"exploit_ratio": pytest.approx(1 + 10 / 90), "exploit_gate": 1.0}
    cheat = Exploits(returns={"a": (100.0, 90.0), "b": (50.0, 0.0)})
    assert (
        cheat.overpaid()["b"] == pytest.approx(1 + 50 / 9) and cheat.figures()["exploit_gate"] == 0
    )
    loses = Exploits(returns={"a": (-2.0, -3.0)})
    assert loses.figures()["exploit_ratio"] == pytest.approx(1 + 1 / 3)


def test_scripted_play_is_every_action_and_pairs_but_not_too_many():
    for num_actions in (1, 5, 9):
        assert len(turns(num_actions)) == num_actions * (num_actions + 1) // 2
    played = turns(18)
    assert [turn for turn in played if len(turn) == 1] == [(a,) for a in range(18)]
    pairs = [turn for turn in played if len(turn) == 2]
    assert len(set(pairs)) == len(pairs) == MOST_PAIRS
    assert {action for pair in pairs for action in pair} == set(range(18))


def test_the_real_game_goes_on_from_each_start_as_it_did():
    env = CountingVectorEnv(2, autoreset_mode="Disabled")
    starts = find_starts(env, 5, seed=0)
    assert len(starts.states) == len(starts.frames) == 5 and starts.frames.shape[1] == 4
    counters = starts.frames[:, :, 0, 1, 0].astype(int)
    assert (np.diff(counters) == starts.actions % 2).all()
    add = next(player for player in scripted(ACTIONS) if player.name == "ADD-1")
    first, again = (played_real(env, starts, add, 0, 7).rewards for _ in range(2))
    assert (first == again).all() and (first == 1).all() and first.shape == (7, 5)


def test_no_start_lies_in_the_intro_of_a_game():
    """Crazy Climber begins with 85 steps in which nothing can move."""
    env = make_real("CrazyClimber", 2, 1_000)
    starts = find_starts(env, 8, seed=1)
    pairs = [starts.states[i : i + 2] for i in range(0, 8, 2)]
    for states in pairs:
        shown = []
        for name in ("UP", "DOWN"):
            env.unwrapped.load_state(states)
            action = np.full(2, env.unwrapped.actions.meanings.index(name))
            shown.append(np.stack([env.step(action)[0] for _ in range(16)], 1))
        assert (shown[0] != shown[1]).any((1, 2, 3, 4)).all()
    env.reset(seed=0)
    for _ in range(40):
        env.step(np.zeros(2, np.int64))
    assert not responds(env, env.unwrapped.save_state()).any(), "the intro was left out for nothing"
    env.close()


def test_a_game_of_too_short_episodes_has_no_starts():
    env = CountingVectorEnv(2, autoreset_mode="Disabled", max_episode_steps=2)
    with pytest.raises(ValueError, match="episodes of this game rarely have 4 frames"):
        find_starts(env, 2, seed=0)


def test_rates_count_until_each_episode_has_ended():
    env = CountingVectorEnv(2, autoreset_mode="Disabled")
    starts = find_starts(env, 3, seed=0)

    def player(*actions: int) -> Player:
        plan = Planned(lambda rng, length: np.resize(np.array(actions), length), 2, 8)
        return Player(name="known", inside=True, make=lambda rows, steps: plan)

    ends = played_real(env, starts, player(1, 1, 1, 2), 0, 8)
    assert ends.lengths.tolist() == [4, 4, 4] and ends.terminated.all()
    assert per_1000_steps(ends) == (750.0, 250.0)
    assert per_1000_steps(played_real(env, starts, player(1, 0), 0, 8)) == (500.0, 0.0)
    rates = Rates(name="known", rewards=(750.0, 500.0), ends=(250.0, 0.0)).figures()
    assert rates["rate_reward_ratio_known"] == 1.5 and rates["rate_ends_dream_known"] == 250
    assert "rate_ends_ratio_known" not in rates, "the game never ended"


def test_agents_of_dream_and_game_are_compared(tmp_path, capsys):
    arguments = ["--worlds", "CrazyClimber", "--quick", "--seeds", "2", "--work", str(tmp_path)]
    assert transfer.main([*arguments, "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures["random_crazyclimber_low"] <= figures["random_crazyclimber_high"]
    assert "270,540 + 2,004" in capsys.readouterr().out  # real frames of the world, and of starts


def test_policies_of_many_kinds_are_ranked(tmp_path, capsys):
    out = tmp_path / "f.json"
    arguments = ["--worlds", "CrazyClimber", "--quick", "--picture", str(tmp_path / "p.png")]
    assert ranking.main([*arguments, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert -1 <= figures["spearman_crazyclimber"] <= 1 and figures["mmrv_crazyclimber_outside"] >= 0
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert "UP and DOWN" in capsys.readouterr().out


def test_agents_whose_folders_have_one_name_are_told_apart():
    found = agents_of("CrazyClimber", [Path("a/agent"), Path("b/agent"), Path("c/other")])
    assert [player.name for player in found] == ["agent a/agent", "agent b/agent", "agent other"]


def test_only_scores_of_the_worlds_own_sampling_are_recorded():
    with pytest.raises(ValueError, match="omit --mode"):
        FidelityConfig(world="Pong", record=True, temperature=0.0)


def test_a_ranking_needs_starts():
    with pytest.raises(ValueError, match="--starts must be at least 1, got 0"):
        ranking.main(["--worlds", "CrazyClimber", "--starts", "0"])


def test_an_agent_of_no_world_is_refused_not_left_out(tmp_path):
    with pytest.raises(ValueError, match="unknown world for the agent"):
        ranking.main(["--worlds", "CrazyClimber", "Pong", "--agents", str(tmp_path / "agent")])

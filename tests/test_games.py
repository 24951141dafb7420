"""The catalogue's labels, the questions it answers, its selections and its measurements."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from genie_gym import retroact
from genie_gym.cli import main
from genie_gym.retroact import Labels, catalogue, labels, update
from genie_gym.retroact.measured import confirmed_controls, measured_words
from genie_gym.retroact.probe import CONFIRMS
from genie_gym.retroact.probe_measure import measure
from genie_gym.retroact.probe_play import ACTIONS, Branches, ProbeConfig, play_branches
from genie_gym.retroact.public import (
    read_annotation,
    read_controls,
    todays_game,
    write_annotation,
)
from genie_gym.retroact.selections import SELECTIONS, selection

PROBES = Path(__file__).parent.parent / "benchmarks" / "results" / "probe"


def test_every_label_is_of_the_vocabulary_and_platformers_have_all_six_controls():
    problems = {game.name: game.labels.problems() for game in retroact.games()}
    new = update.unlabelled(catalogue.TABLE.read_text())
    assert not new, f"games without labels, to be labelled in {catalogue.TABLE}: {new}"
    assert not {name: found for name, found in problems.items() if found}
    platformers = retroact.games(genre="platformer")
    assert len(platformers) > 400
    assert all(len(game.labels.controls) == 6 for game in platformers)


def test_a_bad_label_is_a_problem():
    good = Labels(view="side", motion="free", genre="race", evidence="known")
    assert good.problems() == []
    platformer = Labels(view="side", motion="free", genre="pl", evidence="known", up="fly")
    assert "up='fly'" in platformer.problems() and "no jump" in platformer.problems()


def test_new_games_are_reported_and_do_not_crash(tmp_path, monkeypatch, capsys):
    table = tmp_path / "games.csv"
    lines = catalogue.TABLE.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("Pong-")) + "\n")
    monkeypatch.setattr(update, "TABLE", table)
    update.main([])
    assert "1 of them have no labels yet: Pong-Atari2600" in capsys.readouterr().out
    rows = {row["game"]: row for row in csv.DictReader(table.open())}
    assert Labels.from_row(rows["Pong-Atari2600"]) == Labels()
    assert Labels.from_row(rows["Alien-Atari2600"]) == catalogue.game("Alien-Atari2600").labels


def test_games_answer_to_every_part_of_a_question():
    found = retroact.games(genre="platformer", view="side", platform="nes", jump="jump")
    assert catalogue.game("SuperMarioBros-Nes") in found
    assert all(
        (g.platform, g.labels.genre, g.labels.view, g.labels.jump) == ("Nes", "pl", "side", "jump")
        for g in found
    )
    either = retroact.games(genre=("pong", "pinball"))
    assert len(either) == len(retroact.games(genre="pong")) + len(retroact.games(genre="pinball"))
    here, gone = retroact.games(playable=True), retroact.games(playable=False)
    assert len(here) + len(gone) == len(retroact.games())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gnre": "pl"}, "Did you mean 'genre'"),
        ({"genre": "plattformer"}, "must be one of pl, pl_fly"),
        ({"platform": "Nintendo"}, "expected one of .*Nes"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(asked, message):
    with pytest.raises(ValueError, match=message):
        retroact.games(**asked)


def test_the_command_lists_and_shows(capsys):
    assert main(["games", "--genre", "platformer", "--platform", "Nes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["games"]
    assert len(listed) == len(retroact.games(genre="pl", platform="Nes"))
    assert main(["games", "show", "SuperMarioBros-Nes"]) == 0
    shown = capsys.readouterr().out
    assert "RetroAct/SuperMarioBros-Nes-v0" in shown and "JUMP       jump" in shown
    assert "GenieRedux/SuperMarioBros-v0" in shown
    assert main(["games", "show", "BalloonFight-Nes"]) == 0
    assert "second opinion: side free pl_fly" in capsys.readouterr().out
    assert main(["games", "sets", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(SELECTIONS)


def test_selections_are_what_they_say():
    fifty = selection("@platformers-50")
    assert len(fifty.games) == 50 and len(fifty.playable) + len(fifty.missing) == 50
    first = selection("platformers-200").games
    assert len(first) == 200 and all(game.labels.genre == "pl" for game in first)
    assert len(selection("playable-33").games) == 33
    assert all(game.playable for game in selection("playable-platformers").games)
    filtered = selection("platformers-consistent").games
    assert {game.labels.jump for game in filtered} == {"jump"}
    assert {game.labels.up for game in filtered} == {"climb", "none"}
    with pytest.raises(ValueError, match="Did you mean 'platformers-50'"):
        selection("platformer-50")


def test_every_measured_label_is_confirmed_by_a_committed_probe():
    words = measured_words(PROBES)
    for game in retroact.games():
        if not game.labels.measured:
            continue
        found = confirmed_controls(game.labels, words[game.name])
        assert game.labels.measured.split() == found, game.name
        assert (game.labels.controls_evidence == "measured") == (len(found) == 6), game.name
    assert {game.name for game in selection("playable-33").games} == set(words)
    assert {word for each in words.values() for word in each.values()} <= set(CONFIRMS)


def drawn(x: int, y: int, shot: int | None = None) -> np.ndarray:
    """A screen with a figure of two colours, and maybe a shot."""
    screen = np.zeros((100, 120, 3), np.uint8)
    screen[80:] = (90, 60, 30)
    screen[y : y + 8, x : x + 6] = (200, 80, 80)
    screen[y : y + 3, x : x + 6] = (240, 220, 180)
    if shot is not None:
        screen[y + 4, x + 6 + shot : x + 9 + shot] = (255, 255, 255)
    return screen


def test_what_moves_is_told_from_pictures_of_known_answer():
    heights = [0, 8, 14, 18, 20, 20, 18, 14, 8, 0, 0, 0]
    played = {
        "NOOP": [drawn(50, 72) for _ in range(12)],
        "RIGHT": [drawn(50 + 2 * t, 72) for t in range(12)],
        "LEFT": [drawn(50 - 2 * t, 72) for t in range(12)],
        "UP": [drawn(50, 72 - 2 * t) for t in range(12)],
        "DOWN": [drawn(50, 72) for _ in range(12)],
        "JUMP": [drawn(50, 72 - height) for height in heights],
        "SECONDARY": [drawn(50, 72, shot=4 * t) for t in range(12)],
    }
    branches = Branches(
        screens=np.array([played[meaning] for meaning in ACTIONS.meanings]),
        memories=np.zeros((7, 12, 4), np.uint8),
    )
    words = {name: effect.word for name, effect in measure(branches).items()}
    assert words == {
        "RIGHT": "right",
        "LEFT": "left",
        "UP": "up",
        "DOWN": "none",
        "JUMP": "jump",
        "SECONDARY": "sends",
    }


def test_branches_of_a_real_game_begin_in_one_moment_and_repeat():
    config = ProbeConfig(num_states=1, first=30, last=30)
    (one,), (two,) = (list(play_branches("Kangaroo-Atari2600", config)) for _ in range(2))
    assert np.array_equal(one.screens, two.screens)
    assert np.array_equal(one.memories, two.memories)
    effects = measure(one)
    assert effects["RIGHT"].word == "right" and effects["DOWN"].word == "crouch"


def test_the_public_format_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "annotation.csv"
    write_annotation(path, retroact.games())
    found, unknown = read_annotation(path)
    assert not unknown and len(found) == len(retroact.games())
    game = catalogue.game("SuperMarioBros-Nes")
    assert found[game.name] == {"view": "side", "motion": "free", "genre": "pl"}
    assert path.read_text().splitlines()[0] == "game,tags"


def test_ids_of_any_spelling_mean_todays_games(tmp_path):
    assert todays_game("supermariobros-nes").name == "SuperMarioBros-Nes"
    assert todays_game("SuperMarioBros").name == "SuperMarioBros-Nes"
    assert todays_game("Kangaroo-Atari2600-v0").name == "Kangaroo-Atari2600"
    assert todays_game("shinobi-gamegear") is None
    assert todays_game("SonicTheHedgehog") is None, "there are two of that name"
    path = tmp_path / "annotation.csv"
    path.write_text("game,tags\nnosuchgame,side free pl\nkangaroo,side free pl\n")
    assert read_annotation(path) == (
        {"Kangaroo-Atari2600": {"view": "side", "motion": "free", "genre": "pl"}},
        ["nosuchgame"],
    )
    path.write_text("game,tags\nkangaroo,side free\n")
    with pytest.raises(ValueError, match="line 2"):
        read_annotation(path)


def test_the_public_control_labels_are_read(tmp_path):
    path = tmp_path / "controls.csv"
    columns = "game,RIGHT,LEFT,UP,DOWN,ACTION_JUMP,ACTION_SECONDARY,transition"
    path.write_text(f"{columns}\nmegaman-nes,right,left,climb,climb,jump,shoot,NO\n")
    words = catalogue.game("MegaMan-Nes").labels.controls
    assert read_controls(path) == {"MegaMan-Nes": words}
    path.write_text(f"{columns}\nnosuchgame,right,left,climb,climb,jump,shoot,NO\n")
    with pytest.raises(ValueError, match="line 2: no game 'nosuchgame'"):
        read_controls(path)
    path.write_text("game,tags\n")
    with pytest.raises(ValueError, match="must have columns"):
        read_controls(path)


def test_the_vocabularies_share_no_doubtful_word():
    assert len(labels.GENRES) == 15 and len(labels.VIEWS) == 5 and len(labels.MOTIONS) == 5
    with pytest.raises(ValueError, match="got 'hop'"):
        labels.check_word("jump", "hop")

"""The labels of all games obey the conventions of docs/retroact.md that can be checked by rule."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from genie_gym import retroact
from genie_gym.retroact import Labels, labels
from genie_gym.retroact.selections import selection

ROOT = Path(__file__).parents[1]
# Genre -> the views and motions that it may have.
ALLOWED = {
    "pl": ("side 3p", "free"),
    "pl_fly": ("side", "free"),
    "fight": ("side 3p", "free"),
    "pong": ("side", "h v"),
    "pinball": ("side", "fixed"),
    "tetris": ("side", "free"),
    "maze": ("side top 3p", "free"),
    "grid": ("top 3p", "free"),
    "race": ("1p 3p", "h"),
    "space_shooter": ("side top 3p", "h v tube"),
}
# Crafts that choose their way: the screen scrolls where they fly, or not at all.
ROAMING = set(
    """ArcherMacleansSuperDropzone-Snes Asteroids-Atari2600 Asteroids-GameBoy AstroRoboSasa-Nes
    Choplifter-Nes ChoplifterIIIRescueSurvive-Snes ChopperCommand-Atari2600 Defender-Atari2600
    DefenderII-Nes DesertStrikeReturnToTheGulf-Genesis FantasyZone-Sms
    FantasyZoneIIOpaOpaNoNamida-Nes FantasyZoneIITheTearsOfOpaOpa-Sms Gravitar-Atari2600
    Seaquest-Atari2600 SubTerrania-Genesis SuperFantasyZone-Genesis ThunderForceII-Genesis
    TimePilot-Atari2600 YarsRevenge-Atari2600""".split()
)
# Game -> why it is unlike its genre.
EXCEPTIONS = {
    "Atlantis-Atari2600": "the guns stay in place",
    "Blockout-Genesis": "one looks down into the pit",
    "Boxing-Atari2600": "the ring is seen from above",
    "ChampionshipProAm-Genesis": "a toy car on an isometric track",
    "CombatCars-Genesis": "a track seen from above",
    "PunchOut-Nes": "the boxer dodges in place",
    "UrbanChampion-Nes": "no jumps",
}
# Games that share only their title, or whose releases differ.
UNLIKE = {
    "Asterix": "another game on the Atari",
    "BatmanReturns": "a platformer on Genesis, brawlers on Nes and Snes",
    "BattletoadsDoubleDragon": "among the paper's 50 platformers on Genesis only",
    "CaptainAmericaAndTheAvengers": "a platformer on Nes, brawlers elsewhere",
    "CaptainPlanetAndThePlaneteers": "the Nes game begins in a craft",
    "Cliffhanger": "a platformer on Nes, brawlers elsewhere",
    "LastActionHero": "platformers on Nes and Snes, a brawler on Genesis",
    "Punisher": "a shooting gallery on Nes, a brawler on Genesis",
    "TazMania": "a race on Snes",
}
# Word -> the controls of a platformer that it may describe.
CONTROLS_OF = {
    "right": "right",
    "left": "left",
    "climb": "up down",
    "crouch": "down",
    "enter": "up down",
    "look": "up down",
    "run": "jump secondary",
    "strike": "jump secondary",
    "punch": "jump secondary",
}


def unlike_its_genre(shown: Labels) -> bool:
    views, motions = ALLOWED.get(shown.genre, (shown.view, shown.motion))
    return shown.view not in views.split() or shown.motion not in motions.split()


def test_view_and_motion_fit_the_genre():
    found = {game.name for game in retroact.games() if unlike_its_genre(game.labels)}
    assert found == ROAMING | set(EXCEPTIONS)
    assert all(
        (game.labels.genre, game.labels.motion) == ("space_shooter", "free")
        for game in retroact.games()
        if game.name in ROAMING
    )


def test_the_rule_finds_a_shooter_that_moves_along_the_scrolling():
    assert unlike_its_genre(Labels(view="top", motion="free", genre="space_shooter"))
    assert not unlike_its_genre(Labels(view="top", motion="h", genre="space_shooter"))


def test_releases_of_one_game_have_the_same_view_and_genre():
    releases = defaultdict(set)
    for game in retroact.games():
        releases[game.title].add((game.labels.view, game.labels.genre))
    assert {title for title, shown in releases.items() if len(shown) > 1} == set(UNLIKE)


def test_the_words_of_platformers_fit_their_controls():
    for game in retroact.games(genre="pl"):
        for control, word in game.labels.controls.items():
            allowed = CONTROLS_OF.get(word, control)
            assert control in allowed.split(), f"{game.name}: {control.upper()} {word}"
        if game.labels.down == "climb":
            assert game.labels.up == "climb", f"{game.name}: DOWN climbs, UP does not"


def test_a_second_opinion_is_another_opinion():
    kept = [game for game in retroact.games() if game.labels.second_opinion]
    assert kept and all(game.labels.evidence == "public" for game in kept)
    game = Labels(view="side", motion="free", genre="race", evidence="known")
    assert not game.problems()
    for bad in ("side free race", "side free", "side free flying"):
        wrong = Labels(
            view="side", motion="free", genre="race", evidence="known", second_opinion=bad
        )
        assert wrong.problems() == [f"second_opinion={bad!r}"]
    with pytest.raises(ValueError, match="unknown label 'second_opinion'"):
        retroact.games(second_opinion="side free pl")


def test_every_row_says_how_sure_it_is():
    assert {game.labels.evidence for game in retroact.games()} == {"known", "public", "unsure"}


def test_the_page_has_the_figures_of_the_committed_comparison():
    page = (ROOT / "docs" / "retroact.md").read_text()
    result = json.loads((ROOT / "benchmarks" / "results" / "catalogue.json").read_text())
    figures = result["figures"]
    agree = [figures[f"agree_{name}"] for name in ("view", "motion", "genre", "platformer")]
    assert f"| {' | '.join(f'{share:.1%}'.replace('%', ' %') for share in agree)} |" in page
    fifty = [figures[f"agree_50_{name}"] for name in labels.CONTROLS]
    assert f"| {' | '.join(f'{share:.0%}'.replace('%', ' %') for share in fifty)} |" in page
    assert f"In {figures['public_50_alike']} of the 50 rows" in page
    assert f"have {figures['platformers_200_shared']} games in common" in page
    for name in ("known", "public", "unsure"):
        rows = [game for game in retroact.games() if game.labels.evidence == name]
        assert len(rows) == figures[f"evidence_{name}"]
        assert f"| {len(rows)} | {figures[f'controls_{name}']:,} |" in page
    chosen = selection("platformers-consistent").games
    assert len(chosen) == figures["selection_platformers-consistent"]
    assert f"| `platformers-consistent` | {len(chosen)} |" in page
    assert f"{figures['consistent_of_50']} of the 50 games pass" in page

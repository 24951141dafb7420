"""The shipped table of games says what the installed stable-retro says."""

import pytest

from genie_gym.actions import ACTION_SETS, retro_buttons
from genie_gym.retroact import catalogue, roms, update


def test_the_table_is_that_of_the_installed_stable_retro():
    import stable_retro.data

    listed = {name.removesuffix("-v0") for name in stable_retro.data.list_games()}
    shipped = {game.name for game in catalogue.games()}
    new, gone = sorted(listed - shipped), sorted(shipped - listed)
    assert not new and not gone, (
        f"new games: {new}; games that are gone: {gone}; type python -m genie_gym.retroact.update"
    )
    assert update.table_text() == catalogue.TABLE.read_text()


def test_there_are_over_a_thousand_games_each_with_its_own_id():
    games = catalogue.games()
    assert len(games) > 1000
    assert len({game.env_id for game in games}) == len(games)
    assert list(games) == sorted(games, key=lambda game: game.name)


def test_a_game_knows_its_title_platform_and_ids():
    game = catalogue.game("SuperMarioBros-Nes-v0")
    assert game is catalogue.game("SuperMarioBros-Nes")
    assert (game.title, game.platform) == ("SuperMarioBros", "Nes")
    assert (game.retro_id, game.env_id) == (
        "SuperMarioBros-Nes-v0",
        "RetroAct/SuperMarioBros-Nes-v0",
    )
    assert game.default_state in roms.states(roms.game_dir(game.name))


def test_every_game_has_a_start_state_and_buttons_for_each_action():
    import stable_retro.data

    for game in catalogue.games():
        assert game.default_state and game.num_states >= 1, game.name
        platform = "FBNeo" if game.platform == "Arcade" else game.platform
        buttons = stable_retro.data.EMU_INFO[platform]["buttons"]
        for name in ("retroact-5", "retroact-7"):
            for pressed in retro_buttons(ACTION_SETS[name], game.platform):
                assert set(pressed) <= set(buttons), f"{game.name}: {pressed} of {buttons}"


def test_columns_that_others_added_survive_an_update(tmp_path, monkeypatch):
    header, first, *_ = catalogue.TABLE.read_text().splitlines()
    table = tmp_path / "games.csv"
    table.write_text(f"{header},mood\n{first},side\n")
    monkeypatch.setattr(update, "TABLE", table)
    written = update.table_text().splitlines()
    assert written[0] == f"{header},mood"
    assert written[1] == f"{first},side"
    assert written[2].endswith(",")


def test_an_unknown_game_is_answered_with_near_names():
    with pytest.raises(ValueError, match="'SuperMarioBros-Nes'"):
        catalogue.game("supermariobro-nes")
    with pytest.raises(ValueError, match="no game 'zzz'"):
        catalogue.game("zzz")

"""The server of `genie-gym play`: many at once, and whoever misbehaves harms nobody."""

import hmac
import json
import os
import socket
import statistics
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from genie_gym.collect.command import CollectConfig, collect
from genie_gym.play import guard
from genie_gym.play.commands import Command
from tests.browser import until
from tests.played import Client, engine, served
from tests.square_runs import make_world
from world_models.episodes import EpisodeDataset


def still_plays(client):
    client.send("act", 2, key=5)
    client.frame(lambda frame: frame["key"] == 5)
    client.close()


@pytest.fixture(scope="module")
def playing(coinrun_world, one_thread, tmp_path_factory):
    """An engine with the small world."""
    with engine(coinrun_world, tmp_path_factory.mktemp("recordings")) as playing:
        yield playing


@pytest.fixture(scope="module")
def url(playing):
    with served(playing) as url:
        yield url


@pytest.fixture(autouse=True)
def all_gone(playing):
    """Every test leaves an empty server."""
    yield
    until(lambda: not playing.sessions)


def closed(client) -> tuple[int, str]:
    """Why the server closed a connection."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.recv(timeout=10)
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_eight_play_at_once_and_a_ninth_is_told_so(playing, url):
    clients = [Client(url) for _ in range(8)]
    for number, client in enumerate(clients):
        client.frame()
        client.send("reset", number)
        client.send("speed", 10)
    delays = []
    for turn in range(1, 4):
        for client in clients:
            client.send("act", turn, key=turn)
            client.go_on()
            begun = time.monotonic()
            answer = client.frame(lambda f, turn=turn: f["key"] == turn and f["action"] == turn)
            delays.append(time.monotonic() - begun)
            assert answer["seed"] == clients.index(client)
    assert statistics.median(delays) < 0.5
    rows = {id(session.rows) for session in playing.sessions.values()}
    assert len(playing.sessions) == 8 and len(rows) == 1  # one world for all
    ninth = Client(url)
    assert closed(ninth.socket) == (1013, "all places are taken")
    for client in clients:
        client.close()


def test_dreams_that_are_due_together_are_one_batch(playing, url):
    clients = [Client(url) for _ in range(3)]
    for client in clients:
        client.frame()
        client.send("speed", 60)

    def together() -> bool:
        for client in clients:
            client.go_on()
        batches = {id(session.live.player.batch) for session in playing.sessions.values()}
        return len(playing.sessions) == 3 and len(batches) == 1

    until(together)
    for client in clients:
        client.close()


LASTING = 3  # a seed whose episode does not end at once

GARBAGE = [
    "",
    "{",
    "[]",
    "null",
    "[" * 900,
    '{"do": "act"}',
    '{"do": "act", "value": true}',
    '{"do": "act", "value": 1e9}',
    '{"do": "act", "value": -2}',
    '{"do": "speed", "value": 0}',
    '{"do": "speed", "value": 1000}',
    '{"do": "reset", "value": -1}',
    '{"do": "world", "value": ""}',
    '{"do": "__init__"}',
    '{"do": ["act"], "value": 1}',
    '{"do": "close"}',
    '{"do": "step", "value": 1, "more": 2}',
    '{"do": "step", "key": -1}',
    b"\x00\x01\x02",
]


def test_garbage_ends_its_own_session_alone(url):
    good = Client(url)
    good.frame()
    for garbage in GARBAGE:
        bad = Client(url)
        bad.socket.send(garbage)
        assert closed(bad.socket)[0] == 1008, garbage
    bad = Client(url)
    bad.socket.send("x" * 5000)
    assert closed(bad.socket)[0] == 1009
    still_plays(good)


def test_wishes_that_cannot_be_met_are_answered(url):
    client = Client(url)
    client.frame()
    for do, value, answer in [
        ("act", 200, "no such action"),
        ("keep", 1, "only one branch"),
        ("dream_on", None, "real game on"),
        ("driver", "nobody", "no driver"),
        ("world", "/etc", "no world"),
        ("world", "../CoinRun", "no world"),
    ]:
        client.send(do, value)
        assert answer in client.until(lambda told: "notice" in told)["notice"]
    client.close()


def test_a_flood_is_ended(url):
    good = Client(url)
    good.frame()
    bad = Client(url)
    text = json.dumps({"do": "act", "value": 1})
    with pytest.raises(ConnectionClosed):
        for _ in range(100_000):
            bad.socket.send(text)
    still_plays(good)


def test_clients_that_vanish_leave_nothing(playing, url):
    good = Client(url)
    good.frame()
    for _ in range(5):
        gone = Client(url)
        gone.frame()
        gone.socket.socket.shutdown(socket.SHUT_RDWR)  # no goodbye, in the midst of frames
    until(lambda: len(playing.sessions) == 1)
    still_plays(good)


def test_a_client_that_does_not_draw_gets_no_queue(playing, url):
    slow = Client(url)
    slow.frame()
    slow.send("speed", 60)
    (session,) = until(lambda: list(playing.sessions.values()))
    until(lambda: slow.go_on() or session.live.now > 30)
    unread = []
    with pytest.raises(TimeoutError):
        while True:
            unread.append(slow.socket.recv(timeout=0.3))
    assert 1 <= len(unread) <= 4  # frames, of more than 30
    slow.send("got", 0)
    newest = slow.frame()
    assert newest["now"] > 30  # the rest was dropped
    slow.close()


def test_an_idle_session_ends(playing):
    with served(playing, idle_seconds=0.4) as url:
        client = Client(url)
        client.frame()
        begun = time.monotonic()
        code, reason = closed(client.socket)
    assert code == 1008 and "controls" in reason and time.monotonic() - begun < 5


def test_foreign_pages_are_refused(url):
    place = urlsplit(url).netloc
    for origin in ("http://evil.example", "null", f"http://{place}.evil.example", "file://"):
        with pytest.raises(InvalidStatus) as refused:
            Client(url, origin=origin)
        assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        connect(f"ws://{place}/socket").__enter__()  # no origin at all
    # A foreign name that leads to this machine.
    request = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request)
    assert answer.value.code == 403
    with urllib.request.urlopen(url) as page:
        assert (
            page.status == 200 and "default-src 'self'" in page.headers["content-security-policy"]
        )


@pytest.mark.parametrize(
    "path", ["films/..%2f..%2fetc%2fpasswd", "page/../server.py", "films/x.gif"]
)
def test_no_other_file_is_given_out(url, path):
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(url + path)
    assert answer.value.code == 404


def status(url: str, **headers: str) -> int:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given):
            return None

    try:
        opener = urllib.request.build_opener(Stay)
        return opener.open(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as answer:
        return answer.code


def test_only_the_token_opens_an_address_that_others_reach(playing):
    with served(playing, host="0.0.0.0") as url:
        base, _, token = url.partition("?token=")
        base = base.replace("0.0.0.0", "127.0.0.1")
        assert len(token) >= 16
        wrong = ["", "x", token[:-1], token + "x", token.swapcase(), "é" * 5]
        for given in wrong:
            assert status(f"{base}?token={urllib.parse.quote(given)}") == 403
            assert status(base, Cookie=f"{guard.COOKIE}={urllib.parse.quote(given)}") == 403
        assert status(base) == status(f"{base}page/main.js") == 403
        assert status(f"{base}?token={token}") == 303  # and a cookie
        assert status(base, Cookie=f"{guard.COOKIE}={token}") == 200
        with pytest.raises(InvalidStatus):
            Client(base)
        client = Client(base, additional_headers={"Cookie": f"{guard.COOKIE}={token}"})
        client.frame()
        client.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_on_an_ipv6_address(playing):
    with served(playing, host="::1") as url:
        assert url.startswith("http://[::1]:") and status(url) == 200
        still_plays(Client(url))


@pytest.fixture(scope="module")
def own_world(one_thread, tmp_path_factory):
    """A world of somebody else's env."""
    root = tmp_path_factory.mktemp("own")
    collect(
        CollectConfig(
            env="tests.picture_env:PictureGame-v0",
            out=root / "data",
            policy="random",
            episodes=12,
            max_steps=20,
            env_kwargs={"frame_size": "16"},
        )
    )
    return make_world(root, root / "data").world


def change_card(playing, **changes):
    (rows,) = playing.library._open.values()
    rows.world = replace(rows.world, card=replace(rows.world.card, **changes))


def test_a_world_of_ones_own_env_has_its_real_game(own_world, tmp_path):
    with engine(own_world, tmp_path, seed=1) as playing, served(playing) as url:
        client = Client(url)
        client.send("real", True)
        client.frame(lambda frame: frame["real"])
        assert client.frame(lambda frame: frame["now"] > 0)["real"]["psnr"] is not None
        client.close()


def test_a_game_that_cannot_be_made_is_told_and_the_dream_goes_on(own_world, tmp_path):
    with engine(own_world, tmp_path, seed=1) as playing, served(playing) as url:
        change_card(playing, env_kwargs={"no_such_argument": 1})
        client = Client(url)
        client.send("real", True)
        notice = client.until(lambda told: "notice" in told)["notice"]
        assert "no_such_argument" in notice
        still_plays(client)


@pytest.mark.parametrize("end", ["page", "game", "server"])
def test_a_recording_is_stored_whatever_ends_it(own_world, tmp_path, end):
    class Nobody:
        def show(self, packet):
            pass

        tell = show

    with engine(own_world, tmp_path, seed=1) as playing:
        change_card(playing, outcomes=False)  # the dream never ends
        playing.open("me", Nobody())
        playing.obey("me", Command(do="real", value=True))
        session = until(lambda: playing.sessions.get("me"))
        until(lambda: session.real)
        for do in ("pause", "record"):
            playing.obey("me", Command(do=do, value=True))
        playing.obey("me", Command(do="step"))
        until(lambda: session.recording and len(session.recording) == 1)
        if end == "page":
            playing.end("me")
            until(lambda: list(tmp_path.glob("Square-real/manifest-*")))
        elif end == "game":
            session.real.player.close()  # behind its back: its next step fails
            playing.obey("me", Command(do="step"))
            until(lambda: list(tmp_path.glob("Square-real/manifest-*")))
            assert session.real is None
    for kind in ("Square", "Square-real"):  # the dream, and the real game
        assert len(EpisodeDataset(tmp_path / kind)) == 1


def test_a_secret_is_compared_in_constant_time(monkeypatch):
    compared = []
    real = hmac.compare_digest

    def watch(a, b):
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(guard.hmac, "compare_digest", watch)
    secret = "a" * 22
    answers = [guard.same_secret(given, secret) for given in ("", "b", "a" * 21, secret)]
    assert answers == [False, False, False, True]
    assert compared == [(32, 32)] * 4  # hashes: the length of the guess makes no difference


def memory() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_is_flat_over_200_sessions(playing, url):
    def visit(number: int) -> None:
        client = Client(url)
        client.frame()
        if number % 50 == 0:  # play on, and leave a film
            client.send("speed", 60)
            client.send("reset", LASTING)
            client.send("record", True)
            client.frame(lambda frame: frame["recording"] > 5)
            client.send("record", False)
            client.until(lambda told: "film" in told)
        client.close()

    for number in range(30):
        visit(number)
    before = memory()
    for number in range(200):
        visit(number)
    until(lambda: not playing.sessions)
    assert memory() - before < 10
    until(lambda: not list(playing.films.iterdir()))

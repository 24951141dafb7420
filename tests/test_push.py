"""Worlds that are pushed can be pulled: to a file system, and to a hub with its own client."""

import base64
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import huggingface_hub
import pytest

from genie_gym.cli import main
from world_models.worlds.card import WorldCard
from world_models.worlds.find import SHIPPED, VARIABLE, user_folder
from world_models.worlds.model_card import model_card
from world_models.worlds.pull import RemoteWorld

PONG = SHIPPED / "Pong"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_a_pushed_world_is_the_world(tmp_path, capsys):
    target = str(tmp_path / "share" / "Pong")
    assert main(["worlds", "push", "Pong", f"file://{target}", "--license", "cc-by-4.0"]) == 0
    RemoteWorld.read(f"file://{target}").download(tmp_path / "Pulled")
    pulled = WorldCard.read(tmp_path / "Pulled")
    for name in ("tokenizer", "dynamics", "starts"):
        file = f"{name}.safetensors"
        assert (tmp_path / "Pulled" / file).read_bytes() == (PONG / file).read_bytes()
    assert pulled.scores == WorldCard.read(PONG).scores
    assert pulled.provenance["license"] == "cc-by-4.0"
    capsys.readouterr()
    assert main(["worlds", "push", "CrazyClimber", target]) == 1
    assert "--replace" in capsys.readouterr().err
    assert main(["worlds", "push", "CrazyClimber", target, "--replace"]) == 0
    assert WorldCard.read(tmp_path / "share" / "Pong").name == "CrazyClimber"


def test_where_nothing_can_be_pushed(capsys):
    for target, said in {
        "https://example.org/Pong": "can only be read",
        "hf://ann/pong": "--license",
        "hf://ann/pong@v2": "omit @REVISION",
        "hf://pong": "hf://USER/NAME",
    }.items():
        assert main(["worlds", "push", "Pong", target]) == 1
        assert said in capsys.readouterr().err
    assert main(["worlds", "push", "Pong", "memory://Pong", "--license", "do what you like"]) == 1
    assert "identifier" in capsys.readouterr().err


def test_the_model_card_says_what_the_card_knows():
    card = WorldCard.read(SHIPPED / "CoinRun")
    text = model_card(card, "hf://ann/coinrun")
    data = huggingface_hub.ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("genie-gym", "reinforcement-learning")
    assert data.license is None and "Licence: not stated" in text
    assert "genie-gym worlds pull hf://ann/coinrun" in text
    distrust = text.partition("## Where not to trust it")[2].partition("##")[0]
    scores = card.scores
    assert f"{scores['reward_precision']:.0%} are real" in distrust
    assert f"{scores['termination_recall']:.0%}" in distrust
    assert f"{card.provenance['data']['frames']:,} frames" in distrust
    for name, value in scores.items():
        assert f"| {name} | {value:.4g} |" in text


class Hub:
    """As much of the hub's interface as its client needs to make, fill and read a repository."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.private = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(*hub.get(self.path))

            def do_HEAD(self):
                self.answer(*hub.get(self.path))

            def do_POST(self):
                size = int(self.headers.get("Content-Length") or 0)
                self.answer(*hub.post(self.path, self.rfile.read(size)))

            def answer(self, status, value):
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"1"')
                self.send_header("X-Repo-Commit", "0" * 40)
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[int(asked[1]) : int(asked[2]) + 1] if asked else body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def entries(self, names):
        return [
            {"type": "file", "path": name, "size": len(self.files[name]), "oid": "0" * 40}
            for name in names
            if name in self.files
        ]

    def get(self, path):
        if path.startswith("/api/models/ann/pong/tree/main"):
            return 200, self.entries(self.files)
        if path.startswith("/api/models/ann/pong"):
            return 200, {"id": "ann/pong", "sha": "0" * 40, "siblings": []}
        name = path.removeprefix("/ann/pong/resolve/main/")
        return (200, self.files[name]) if name in self.files else (404, {})

    def post(self, path, body):
        if path == "/api/repos/create":
            self.private = json.loads(body)["visibility"] == "private"
            return 200, {"url": f"{self.url}/ann/pong", "name": "ann/pong"}
        if path == "/api/validate-yaml":  # the header of the model card
            return 200, {"errors": [], "warnings": []}
        if path == "/api/models/ann/pong/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": name, **plain} for name in names]}
        if path == "/api/models/ann/pong/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.files |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            return 200, {"commitUrl": f"{self.url}/ann/pong/commit/0", "commitOid": "0" * 40}
        if path == "/api/models/ann/pong/paths-info/main":
            return 200, self.entries(json.loads(body)["paths"])
        return 404, {}


CLIENT = """
import sys
from genie_gym.cli import main
pushed = main(["worlds", "push", "Pong", "hf://ann/pong", "--license", "mit", "--private"])
pulled = main(["worlds", "pull", "https://huggingface.co/ann/pong", "--name", "HubPong"])
assert "torch" not in sys.modules
sys.exit(pushed or pulled)
"""


def test_the_hubs_own_client_pushes_and_pulls():
    """In a process of its own, because the client reads the hub's address at its import."""
    hub = Hub()
    thread = Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_nobody", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", CLIENT],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
        )
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
    assert run.returncode == 0, run.stderr
    assert hub.private
    pulled = {file.name: file.read_bytes() for file in (user_folder() / "HubPong").iterdir()}
    assert pulled.keys() == hub.files.keys() and len(pulled) == 5
    differ = {name for name, data in pulled.items() if data != hub.files[name]}
    assert differ == {"README.md"}, "the one on the hub has the hub's header"

"""Proxies in the environment: processes of one machine reach each other all the same."""

import os
import subprocess
import sys

import pytest

from feddag_flwr.flower.processes import child_environment, loopback_without_proxy

pytestmark = pytest.mark.integration

# Serve HTTP and gRPC on the loopback, and ask both as Flower does.
ASKS = """
import os, threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
import grpc, httpx

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass

http = HTTPServer(("127.0.0.1", 0), Answers)
threading.Thread(target=http.serve_forever, daemon=True).start()
with httpx.Client() as client:
    print(client.get(f"http://127.0.0.1:{http.server_port}").status_code)
server = grpc.server(ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{port}")).result(timeout=20)
print("ready", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"no_proxy": "127.0.0.0/8"},
        {"NO_PROXY": "10.0.0.1"},
        {"no_proxy": "*"},
        {"no_grpc_proxy": "10.0.0.1"},
    ],
)
def test_the_loopback_is_reached_past_a_proxy(given, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", ASKS], env=child_environment(tmp_path), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["204", "ready"], done.stderr


def test_who_is_excepted_already_stays_so():
    assert loopback_without_proxy({"NO_PROXY": "intra.example, localhost"}) == {
        "no_proxy": "intra.example,localhost,127.0.0.1,::1",
        "NO_PROXY": "intra.example,localhost,127.0.0.1,::1",
        "no_grpc_proxy": "intra.example,localhost,127.0.0.1,::1",
    }
    assert loopback_without_proxy({"no_proxy": "*", "no_grpc_proxy": "a"}) == {
        "no_proxy": "*", "NO_PROXY": "*", "no_grpc_proxy": "a,127.0.0.1,localhost,::1",
    }  # fmt: skip


def test_a_node_s_own_processes_are_reached():
    code = (
        "import importlib, os\n"
        "module = importlib.import_module('flwr.supernode.cli.flower_supernode')\n"
        "module.flower_supernode = lambda: print(os.environ['no_proxy'], flush=True)\n"
        "from feddag_flwr.deployment.supernode import main\n"
        "main(['--insecure'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment["no_proxy"] = "intra.example"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "intra.example,127.0.0.1,localhost,::1", done.stderr

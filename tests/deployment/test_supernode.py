"""A SuperNode that has failed ends, though a thread of Flower's would keep it alive."""

import importlib
import subprocess
import sys

import pytest
from flwr.common.config import parse_config_args

from feddag_flwr.deployment.supernode import (
    EXIT_LOST,
    EXIT_USAGE,
    check_node_config,
    run_supernode,
)

pytestmark = pytest.mark.integration

FAILS_WITH_A_THREAD = """
import sys, threading, time
import importlib
def fail():
    threading.Thread(target=time.sleep, args=(300,)).start()
    print("options", sys.argv[1:], flush=True)
    raise RuntimeError("the SuperLink refused this node")
importlib.import_module("flwr.supernode.cli.flower_supernode").flower_supernode = fail
from feddag_flwr.launcher import main
main(["supernode", "--superlink", "a:1", "--help"])
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [(SystemExit(0), 0), (SystemExit(2), 2), (SystemExit("why"), EXIT_LOST),
     (RuntimeError("lost"), EXIT_LOST), (KeyboardInterrupt(), EXIT_LOST), (None, EXIT_LOST)],
)  # fmt: skip
def test_the_exit_status_is_flower_s_or_tells_of_the_loss(monkeypatch, capsys, end, status):
    def flower_supernode():
        assert sys.argv == ["flower-supernode", "--insecure"]
        if end is not None:
            raise end

    module = importlib.import_module("flwr.supernode.cli.flower_supernode")  # not its namesake
    monkeypatch.setattr(module, "flower_supernode", flower_supernode)
    monkeypatch.setattr(sys, "argv", ["before"])
    assert run_supernode(["--insecure"]) == status
    said = capsys.readouterr().err
    assert ("why" in said) == (isinstance(end, SystemExit) and end.code == "why")
    assert ("RuntimeError: lost" in said) == isinstance(end, RuntimeError)


def test_the_process_ends_and_all_options_are_flower_s():
    done = subprocess.run(
        [sys.executable, "-c", FAILS_WITH_A_THREAD], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == EXIT_LOST
    assert "options ['--superlink', 'a:1', '--help']" in done.stdout
    assert "the SuperLink refused this node" in done.stderr


def test_a_node_s_settings_are_read_whole(tmp_path):
    path = tmp_path / "node.toml"
    path.write_bytes(b"\xef\xbb\xbf" + 'client-name = "St. \\"É\\""\nshare = 0.5\n'.encode())
    options = ["--superlink", "a:1", "--node-config", str(path), "--insecure"]
    *others, name, pairs = check_node_config([*options, '--node-config=data-path="C:\\\\x.toml"'])
    assert [*others, name] == ["--superlink", "a:1", "--insecure", "--node-config"]
    assert parse_config_args([pairs]) == {
        "client-name": 'St. "É"', "share": 0.5, "data-path": "C:\\x.toml",
    }  # fmt: skip
    assert check_node_config(["--insecure"]) == ["--insecure"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('FILE data-path="/d"', "FILE' is no key=value pair: a TOML file stands alone"),
        ('client-name = "ward-1"', "'client-name' is no key=value pair"),
        ("FILE", "FILE: Invalid value (at line 2, column 13)"),
    ],
)
def test_what_a_node_would_pass_over_is_named(text, named, tmp_path, capsys):
    path = tmp_path / "node.toml"
    path.write_text('client-name = "a"\ndata-path = /d\n')
    assert run_supernode(["--node-config", text.replace("FILE", str(path))]) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("feddag-flwr supernode: --node-config ")
    assert named.replace("FILE", str(path)) in line

"""A SuperNode that has failed ends, though a thread of Flower's would keep it alive."""

import importlib
import subprocess
import sys

import pytest

from feddag_flwr.deployment.supernode import EXIT_LOST, run_supernode

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

"""A daemon under every harm: processes of Python that stand in for Flower's."""

import os
import signal
import sys
import time

import psutil
import pytest

from feddag_flwr.flower.commands import free_ports
from feddag_lab.demonstration.daemon import Daemon

pytestmark = pytest.mark.integration

# Says what it does; has a child in its group; listens, and stays deaf to SIGTERM, if asked to.
SERVER = """
import os, signal, socket, subprocess, sys, time
print("home", os.environ["FLWR_HOME"], os.getcwd(), flush=True)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (print("asked", flush=True), sys.exit(0)))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
if "lose" not in sys.argv:  # else it could be seen to listen before it ends
    listener.listen()
print("\\033[92mready\\033[0m", child.pid, flush=True)
if "lose" in sys.argv:
    os._exit(3)
while True:
    time.sleep(0.05)
    print("tick", flush=True)
"""


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(*words):
        (port,) = free_ports(1)
        command = [sys.executable, "-c", SERVER, str(port), *words]
        made.append(Daemon("server", tmp_path, command, [port]))
        return made[-1]

    yield make
    for each in made:
        each.kill()
        assert not each.running
        assert each.members() == []


def child_of(daemon):
    return psutil.Process(int(daemon.wait_for("ready", 20).split()[-1]))


def gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_it_has_a_home_and_a_log_of_its_own_and_is_ready_when_it_listens(daemon, tmp_path):
    server = daemon()
    server.start()
    server.wait_ready(20)
    assert f"home {tmp_path / 'server'} {tmp_path / 'server'}" in server.log()
    assert server.wait_for("^ready", 20).startswith("ready")  # without colours
    with pytest.raises(RuntimeError, match="server runs already"):
        server.start()


def test_what_ends_at_its_start_says_so(daemon):
    server = daemon("lose")
    server.start()
    with pytest.raises(RuntimeError, match=r"server ended at its start:\n(.*\n)*ready"):
        server.wait_ready(20)


def test_what_never_listens_is_not_ready(daemon):
    server = daemon()
    server.ports = {1}
    server.start()
    with pytest.raises(TimeoutError, match="server is not ready after"):
        server.wait_ready(0.3)


def test_kill_takes_the_whole_group_and_a_new_start_goes_on_in_the_log(daemon):
    server = daemon()
    server.start()
    child = child_of(server)
    server.kill()
    assert gone(child)
    assert not server.running
    known = len(server.log())
    server.kill()  # nobody is there any more
    server.start()
    server.wait_for("ready", 20, after=known)
    assert server.log().count("ready") == 2


def test_kill_takes_what_a_lost_leader_left(daemon):
    server = daemon("lose")
    server.start()
    child = child_of(server)
    server.process.wait(20)
    assert not gone(child)
    server.kill()
    assert gone(child)


def test_terminate_asks_first(daemon):
    server = daemon()
    server.start()
    child = child_of(server)
    server.terminate()
    assert server.wait_for("asked", 1)
    assert server.process.returncode == 0
    assert gone(child)


def test_terminate_does_not_wait_for_the_deaf(daemon):
    server = daemon("deaf")
    server.start()
    child_of(server)
    server.terminate(0.2)
    assert server.process.returncode == -signal.SIGKILL


def test_a_frozen_one_lives_and_is_silent_until_it_is_thawed(daemon):
    server = daemon()
    server.start()
    child = child_of(server)
    server.wait_for("tick", 20)
    server.freeze()
    frozen = {psutil.Process(server.process.pid), child}
    deadline = time.monotonic() + 20
    while {each.status() for each in frozen} != {psutil.STATUS_STOPPED}:
        assert time.monotonic() < deadline
    known = len(server.log())
    with pytest.raises(TimeoutError, match="server has no line with 'tick' after"):
        server.wait_for("tick", 0.3, after=known)
    assert server.running
    server.thaw()
    server.wait_for("tick", 20, after=known)
    server.freeze()
    server.terminate()  # a frozen one hears it too
    assert server.process.returncode == 0


def test_what_was_never_started_can_be_killed_and_not_waited_for(daemon):
    server = daemon()
    server.kill()
    server.terminate()
    assert not server.running
    with pytest.raises(RuntimeError, match="server was never started"):
        server.wait_ready(1)


def test_members_are_of_its_own_session_alone(daemon):
    server = daemon()
    server.start()
    child = child_of(server)
    assert {each.pid for each in server.members()} == {server.process.pid, child.pid}
    assert os.getpid() not in {each.pid for each in server.members()}

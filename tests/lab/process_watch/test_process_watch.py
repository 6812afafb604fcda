"""What the benchmarks say of memory, handles and processes, on numbers that are known."""

import csv
import io
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from rich.console import Console

from feddag_lab.process_watch.report import plot, tabulate, write_rounds
from feddag_lab.process_watch.sampler import (
    ENDED,
    OTHER,
    OWN,
    Sample,
    Sampler,
    count_lines,
    role_of,
    take,
    this_process,
    write_samples,
)
from feddag_lab.process_watch.trend import TOTAL, by_round, judge, peak_processes

BASE = Sample(
    seconds=0.0, round=1, role="server app", pid=1, rss_mb=100.0, private_mb=60.0, handles=10,
    threads=3,
)  # fmt: skip


class FakeProcess:
    pid = -1

    def __init__(self, *words):
        self.words = list(words)

    def cmdline(self):
        return self.words


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (["ray::ClientAppActor.run"], "Ray actors"),
        (["/venv/bin/python", "/venv/bin/flwr-simulation", "--token", "x"], "server app"),
        (["/venv/bin/python", "/venv/bin/flwr-serverapp"], "server app"),
        (["/venv/bin/python", "/venv/bin/flwr-clientapp"], "client apps"),
        (["/venv/bin/python", "/venv/bin/flower-superlink", "--simulation"], "SuperLink"),
        (["/venv/bin/python", "/venv/bin/flower-supernode"], "SuperNodes"),
        (["/venv/bin/python", "-m", "feddag_flwr.deployment.supernode"], "SuperNodes"),
        (["/venv/bin/python", "/venv/bin/flower-superexec"], "SuperExecs"),
        (["/venv/lib/ray/core/src/ray/raylet/raylet"], "Ray itself"),
        (["ray::RuntimeEnvAgent"], "Ray itself"),
        (["/usr/bin/python", "elsewhere.py"], OTHER),
    ],
)
def test_roles_by_command_line(words, role):
    assert role_of(FakeProcess(*words)) == role


def test_a_sample_counts_what_a_process_opens_and_holds(tmp_path):
    before = take(psutil.Process(), 0.0, 1)
    files = [(tmp_path / f"{i}").open("w") for i in range(20)]
    ballast = np.ones(8_000_000)  # 64 MB, touched

    after = take(psutil.Process(), 1.0, 2)

    assert before.role == OWN
    assert (after.seconds, after.round) == (1.0, 2)
    assert after.handles - before.handles == len(files)
    assert 60 < after.private_mb - before.private_mb < 80
    assert after.rss_mb - before.rss_mb > 60
    assert ballast.nbytes == 64_000_000
    for file in files:
        file.close()


def test_a_process_that_has_gone_gives_no_sample():
    with subprocess.Popen([sys.executable, "-c", ""]) as short:
        gone = psutil.Process(short.pid)
    assert take(gone, 0.0, 0) is None


def test_a_process_that_nobody_collected_counts_as_one():
    with subprocess.Popen([sys.executable, "-c", ""]) as short:
        process = psutil.Process(short.pid)
        deadline = time.monotonic() + 60
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
        sample = take(process, 1.0, 2)
    assert (sample.role, sample.pid, sample.handles) == (ENDED, process.pid, 0)


def test_the_sampler_follows_the_rounds(tmp_path):
    lines = tmp_path / "run" / "seconds.jsonl"
    with Sampler(this_process, lines, period=0.01) as sampler:
        for done in range(3):
            if done:
                lines.parent.mkdir(exist_ok=True)
                lines.write_text("{}\n" * done + '{"torn')
            seen = len(sampler.samples)
            deadline = time.monotonic() + 20
            while len(sampler.samples) < seen + 3 and time.monotonic() < deadline:
                time.sleep(0.01)

    assert count_lines(lines) == 2
    assert sorted({sample.round for sample in sampler.samples}) == [0, 1, 2]
    moments = [sample.seconds for sample in sampler.samples]
    assert moments == sorted(moments)
    ended = len(sampler.samples)
    time.sleep(0.05)
    assert len(sampler.samples) == ended


def test_processes_are_summed_and_moments_of_a_round_give_medians():
    samples = []
    for second, memory in ((1.0, 10.0), (2.0, 20.0), (3.0, 90.0)):
        samples.append(BASE._replace(seconds=second, rss_mb=memory))
        samples.append(BASE._replace(seconds=second, role="Ray actors", pid=2, rss_mb=5.0))
        samples.append(BASE._replace(seconds=second, role="Ray actors", pid=3, rss_mb=7.0))
    samples.append(BASE._replace(seconds=2.0, role="client apps", pid=4, rss_mb=600.0))

    rounds = by_round(samples)

    assert rounds.loc[("server app", 1), "rss_mb"] == 20.0
    assert rounds.loc[("Ray actors", 1), "rss_mb"] == 12.0
    assert rounds.loc[("Ray actors", 1), "processes"] == 2
    assert rounds.loc[("Ray actors", 1), "handles"] == 20
    assert rounds.loc[("client apps", 1), "rss_mb"] == 0.0  # there at one of three moments
    assert rounds.loc[(TOTAL, 1), "rss_mb"] == 32.0  # without the client apps, which come and go
    assert peak_processes(samples, "client apps") == 1
    assert peak_processes(samples, "Ray actors") == 2


def series(values, **others):
    """One server app, and a sample in the middle of each round from 1."""
    return [
        BASE._replace(seconds=float(n), round=n, rss_mb=value, **others)
        for n, value in enumerate(values, start=1)
    ]


def trend(samples, quantity="memory, MB", window=(5, 30)):
    found = {(each.role, each.quantity): each for each in judge(by_round(samples), *window)}
    return found["server app", quantity]


def test_a_line_has_its_slope():
    # 500 MB of imports before the window; then 400 MB and 2 MB a round: 458 MB in the middle.
    found = trend(
        series([500.0 + 30 * n for n in range(4)] + [400 + 2.0 * n for n in range(5, 31)])
    )

    assert (found.first, found.last) == (5, 30)
    assert found.slope == pytest.approx(2.0)
    assert found.level == pytest.approx(435.0)  # rounds 5 to 30 have their middle at 17.5
    assert found.growth == pytest.approx(50.0)
    assert found.share == pytest.approx(2.0 / 435.0)
    assert not found.flat


def test_noise_is_flat_and_a_leak_under_noise_is_not():
    noise = np.random.default_rng(7).normal(0, 3.0, 30)
    assert trend(series(400 + noise)).flat
    leaking = trend(series(400 + 1.5 * np.arange(30) + noise))
    assert not leaking.flat
    assert leaking.slope == pytest.approx(1.5, abs=0.3)


def test_a_step_before_the_window_and_a_fall_are_flat():
    assert trend(series([100.0] * 4 + [500.0] * 26)).flat
    assert trend(series([500.0 - 3 * n for n in range(30)])).flat


def test_one_handle_a_round_grows_and_one_in_all_does_not():
    leaking = [BASE._replace(seconds=float(n), round=n, handles=20 + n) for n in range(1, 31)]
    assert not trend(leaking, "handles").flat
    one_more = [BASE._replace(seconds=float(n), round=n, handles=20 + (n > 15)) for n in range(31)]
    assert trend(one_more, "handles").flat


def test_too_few_rounds_are_no_trend():
    with pytest.raises(ValueError, match="2 rounds of 5 to 30"):
        judge(by_round(series([1.0] * 6)), 5, 30)


def test_tables_and_figure(tmp_path):
    samples = series([400 + 2.0 * n for n in range(30)])
    rounds = by_round(samples)

    write_samples(samples, tmp_path / "processes.csv")
    write_rounds(rounds, tmp_path / "rounds.csv")
    plot(rounds, (5, 30), "A run", tmp_path / "load.png")
    console = Console(file=io.StringIO(), width=120)
    console.print(tabulate(judge(rounds, 5, 30), "A run"))

    with (tmp_path / "processes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert (rows[2]["round"], rows[2]["role"], rows[2]["rss_mb"]) == ("3", "server app", "404.0")
    with (tmp_path / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["role"] for row in rows} == {"server app", TOTAL}
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    text = console.file.getvalue()
    assert "+2.000" in text
    assert "NO" in text

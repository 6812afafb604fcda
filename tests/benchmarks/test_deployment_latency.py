"""The latency benchmark: the clock in the clients, the sums, and the apps that it writes."""

import json
import os

import deployment_latency as latency
import pytest
from deployment_latency import FEDDAG, FLOWER, Note, Parts
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from latency_apps import noop_server
from latency_apps.message_clock import FOLDER_VARIABLE, ClockedApp, Moment

from feddag_flwr.flower.run_config import complete_overrides, read_defaults
from feddag_flwr.settings import Settings


def note(node, start, *, run=1, kind="train"):
    """A message whose process starts, imports from 1 s to 3 s later, and answers after 10 s."""
    return Note(
        run_id=run,
        node_id=node,
        kind=kind,
        started=Moment(start, 0.0),
        imports_begin=Moment(start + 1, 0.25),
        imports_end=Moment(start + 3, 1.25),
        end=Moment(start + 10, 5.25),
        training=Moment(6.0, 3.5),
    )


def write(folder, each):
    values = {
        "run_id": each.run_id,
        "node_id": each.node_id,
        "kind": each.kind,
        **{
            key: (getattr(each, key).clock, getattr(each, key).cpu)
            for key in ("started", "imports_begin", "imports_end", "end", "training")
        },
    }
    (folder / f"{each.run_id}-{each.node_id}-{each.end.clock}.json").write_text(json.dumps(values))


def test_a_round_is_split_by_the_message_answered_last(tmp_path):
    notes = [note(7, 100.0), note(8, 102.0), note(7, 115.0), note(8, 114.5)]
    for each in (*notes, note(7, 90.0, kind="query"), note(7, 90.0, run=2)):
        write(tmp_path, each)

    rounds = latency.rounds_of(latency.read_notes(tmp_path, 1))
    found = latency.examine(rounds)

    assert [[each.node_id for each in row] for row in rounds] == [[7, 8], [7, 8]]
    # The first round ended at 112 with node 8; the second at 125 with node 7, started at 115.
    assert found.rounds == [Parts(way=3.0, start=1.0, imports=2.0, work=1.0, training=6.0)]
    assert found.rounds[0].total == 125.0 - 112.0
    assert found.rounds[0].rest == 5.0
    cpu = Parts(way=0.0, start=0.25, imports=1.0, work=0.5, training=3.5)
    assert found.cpu == [cpu, cpu]


def test_a_node_without_a_reply_is_told():
    with pytest.raises(ValueError, match=r"\[1, 2\] messages"):
        latency.rounds_of([note(7, 1.0), note(7, 2.0), note(8, 1.0)])


def test_conclusion_subtracts_training_and_import():
    found = {
        FLOWER: [Parts(3.0, 1.0, 0.0, 0.0, 0.0), Parts(5.0, 1.0, 0.0, 0.0, 0.0)],
        FEDDAG: [Parts(4.0, 2.0, 5.0, 1.0, 8.0)] * 2,
    }

    text = latency.conclude(found)

    assert "20.00 s to 5.00 s a round, ratio 4.00, difference +15.00 s" in text
    assert "7.00 s to 5.00 s, ratio 1.40, left +2.00 s" in text
    assert latency.tabulate(found, "title").row_count == 8


def test_the_clock_notes_a_message_and_what_was_timed(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    inner = ClientApp()

    def slow():
        return sum(range(2_000_000))

    timed = []

    @inner.train()
    def train(message, _context):
        timed[0]()
        return Message(RecordDict(), reply_to=message)

    app = ClockedApp(inner, Moment.now())
    timed.append(app.timed(slow))
    message = Message(RecordDict(), 5, "train")
    message.metadata.__dict__.update(_message_id="1", _src_node_id=1, _run_id=9)

    reply = app(message, Context(9, 5, {}, RecordDict(), {}))

    (found,) = latency.read_notes(tmp_path, 9)
    assert reply.metadata.dst_node_id == 1
    assert (found.node_id, found.kind) == (5, "train")
    assert found.started.clock < found.imports_begin.clock <= found.imports_end.clock
    assert 0 < found.training.cpu <= found.end.cpu - found.imports_end.cpu
    assert 0 < found.training.clock <= found.end.clock - found.imports_end.clock
    assert str(os.getpid()) in next(iter(tmp_path.iterdir())).name


def test_apps_hold_the_clock_and_take_their_settings(tmp_path):
    apps = latency.write_apps(tmp_path / "apps")

    for kind, app in apps.items():
        config = latency.run_config(kind, 3, tmp_path / "runs")
        assert complete_overrides(config, read_defaults(app), tmp_path)
        assert (app / "latency_apps" / "message_clock.py").exists()
    ours = read_defaults(apps[FEDDAG]) | latency.run_config(FEDDAG, 3, tmp_path / "runs")
    assert Settings.from_run_config(ours).run.num_rounds == 4
    text = (apps[FEDDAG] / "pyproject.toml").read_text()
    assert 'clientapp = "latency_apps.clocked_feddag:app"' in text
    assert 'serverapp = "server_app.app:app"' in text


class SlowGrid:
    """Answers each message at the second time of asking."""

    def __init__(self):
        self.asked = 0

    def push_messages(self, messages):
        self.messages = list(messages)
        for number, message in enumerate(self.messages):
            message.metadata.__dict__.update(_message_id=f"m{number}", _src_node_id=1, _run_id=1)
        return [f"m{number}" for number in range(len(self.messages))]

    def pull_messages(self, waiting):
        self.asked += 1
        number = self.asked // 2
        if self.asked % 2 or f"m{number - 1}" not in waiting:
            return []
        return [Message(RecordDict(), reply_to=self.messages[number - 1])]


def test_the_no_op_server_asks_until_all_have_answered():
    messages = [Message(RecordDict(), node, "train") for node in (3, 4)]
    answers = noop_server.exchange(SlowGrid(), messages, 0.001)
    assert [each.metadata.src_node_id for each in answers] == [3, 4]

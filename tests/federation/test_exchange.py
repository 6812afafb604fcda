import logging
from collections import deque

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from http_errors import http_error
from memory_grid import MemoryGrid, quick_settings

from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.exchange import Exchange, Letter, Wait
from feddag_flwr.records import Limits, RecordError, Rejection


def echo(message, context):
    return Message(message.content, reply_to=message)


def content(size=4):
    return RecordDict({"arrays": ArrayRecord({"x": Array(np.zeros(size, np.float32))})})


class Echo:
    """A request whose reply is itself."""

    action = counted_as = "train"
    header = None

    def encode(self):
        return content()

    def read_reply(self, reply, limits):
        if limits.max_samples < 1:
            raise RecordError("nobody is believed")
        return reply

    def least_down(self):
        return 16

    def least_up(self):
        return 0


def question(node):
    return Letter(node, Echo(), "1")


def make(tamper=None, nodes=6, max_in_flight=50):
    grid = MemoryGrid(quick_settings(), nodes=nodes, app=echo, tamper=tamper)
    return grid, exchange_on(grid, max_in_flight)


def exchange_on(grid, max_in_flight=50, believed=9):
    clients = ClientRegistry(names={node: f"client-{node}" for node in range(101, 200)})
    return Exchange(grid, max_in_flight, clients, Limits(believed))


def ask(exchange, nodes, timeout=5.0):
    """Return the nodes whose replies could be used."""
    letters = (question(node) for node in nodes)
    return [letter.node_id for letter, _ in exchange.stream(letters, Wait(timeout))]


def test_every_node_answers_and_bytes_are_counted():
    grid, exchange = make()
    replies = ask(exchange, sorted(grid.contexts))
    assert sorted(replies) == sorted(grid.contexts)
    size = len(content()["arrays"]["x"].data)
    assert size >= 16  # four floats and NumPy's header
    taken = exchange.traffic.take()
    assert taken["bytes"] == {"down": {"train": 6 * size}, "up": {"train": 6 * size}}
    assert exchange.traffic.take()["bytes"] == {"down": {}, "up": {}}


def test_no_more_than_a_wave_is_under_way():
    grid, exchange = make(nodes=40, max_in_flight=3)
    assert len(ask(exchange, sorted(grid.contexts))) == 40
    assert grid.most_under_way == 3


def test_messages_are_made_only_when_there_is_room():
    grid, exchange = make(nodes=10, max_in_flight=2)
    made = []

    def messages():
        for node in sorted(grid.contexts):
            made.append(node)
            yield question(node)

    next(exchange.stream(messages(), Wait(5.0)))
    assert len(made) <= 4


@pytest.mark.parametrize(
    ("fault", "logged"),
    [
        (lambda r: Message(Error(2, "boom"), reply_to=r), "error 2: boom"),
        (
            lambda r: Message(Error(2, "Trace\nCudaError: lost\nCompile anew.\n"), reply_to=r),
            "error 2: CudaError: lost",
        ),
        (lambda r: Message(Error(2, " \n"), reply_to=r), "error 2: no reason given"),
        (lambda r: None, "no reply within 300 s: passed round-timeout"),
        ("other-node", "the reply came from another node, client-105"),
        ("unknown-message", "dropped a reply to no message of this round"),
    ],
)
def test_a_fault_costs_one_reply_and_a_log_line(fault, logged, caplog):
    def tamper(partition, action, reply):
        if partition != 2:
            return reply
        if fault == "other-node":
            reply.metadata.__dict__["_src_node_id"] = 105
        elif fault == "unknown-message":
            reply.metadata.__dict__["_reply_to_message_id"] = "made-up"
        elif callable(fault):
            request = Message(content(), 103, "train")
            request.metadata.__dict__["_message_id"] = reply.metadata.reply_to_message_id
            return fault(request)
        return reply

    grid, exchange = make(tamper)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        replies = ask(exchange, sorted(grid.contexts), timeout=300.0)
    assert sorted(replies) == [101, 102, 104, 105, 106]
    assert logged in caplog.text
    if fault != "unknown-message":
        assert "client-103" in caplog.text


def test_flower_s_word_for_a_timeout_is_told_as_what_it_is(clock, caplog):
    """The SuperLink calls a message expired a moment before we do, or gone with its node."""

    def tamper(partition, action, reply):
        request = Message(content(), 101 + partition, "train")
        request.metadata.__dict__["_message_id"] = reply.metadata.reply_to_message_id
        clock.now += (0.0, 39.5)[partition]
        return Message(Error(3 + partition, "it may have expired due to its TTL"), reply_to=request)

    _, exchange = make(tamper, nodes=2)
    for node in (101, 102):
        letters = [question(node)]
        assert list(exchange.stream(letters, Wait(40.0, "profile-timeout"))) == []
    assert "client-101 is left out: error 3: it may have expired" in caplog.text
    assert "client-102 is left out: no reply within 40 s: passed profile-timeout" in caplog.text
    assert caplog.text.count("expired") == 1
    (first, second) = exchange.left_out.summary(set(), set(), {}, [])["clients"]
    assert first["client"] == "client-101"
    assert second == {
        "client": "client-102",
        "at": "train",
        "reason": "no reply within 40 s: passed profile-timeout",
    }


def test_the_log_says_now_and_then_who_is_waited_for(clock, caplog):
    def tamper(partition, action, reply):
        return None if partition < 7 else reply

    grid, exchange = make(tamper, nodes=8)
    with caplog.at_level(logging.INFO, logger="flwr"):
        assert ask(exchange, sorted(grid.contexts), timeout=200.0) == [108]
    said = [each.getMessage() for each in caplog.records if "waiting for" in each.getMessage()]
    assert len(said) == 3
    assert said[0].startswith("train: waiting for 7 replies, for 140 s more at most (round-")
    assert said[0].endswith("client-101, client-102, client-103, client-104, client-105 and 2 more")


def test_a_message_that_cannot_be_pushed_costs_that_node_alone(caplog):
    grid, exchange = make()
    push = grid.push_messages

    def failing(messages):
        messages = list(messages)
        return [] if messages[0].metadata.dst_node_id == 102 else push(messages)

    grid.push_messages = failing
    with caplog.at_level(logging.WARNING, logger="flwr"):
        replies = ask(exchange, sorted(grid.contexts))
    assert len(replies) == 5
    assert "client-102 is left out: the message could not be sent" in caplog.text


def test_a_superlink_whose_database_is_locked_for_a_moment_costs_nothing(caplog):
    grid, exchange = make()
    pull, errors = grid.pull_messages, [http_error(500), http_error(503)]

    def failing(ids):
        if errors:
            raise errors.pop()
        return pull(ids)

    grid.pull_messages = failing
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert len(ask(exchange, sorted(grid.contexts))) == 6
    assert "the SuperLink hands over no replies now: error 500" in caplog.text


def test_an_error_that_is_the_run_s_own_ends_it():
    grid, exchange = make()

    def refusing(_):
        raise http_error(403)

    grid.pull_messages = refusing
    with pytest.raises(httpx.HTTPStatusError):
        ask(exchange, sorted(grid.contexts))


def test_an_upload_that_the_superlink_breaks_off_costs_that_node_alone(caplog):
    grid, exchange = make()
    push = grid.push_messages

    def breaking(messages):
        messages = list(messages)
        if messages[0].metadata.dst_node_id == 102:
            raise ObjectPushError("abc", 1, "session")
        return push(messages)

    grid.push_messages = breaking
    with caplog.at_level(logging.WARNING, logger="flwr"):
        replies = ask(exchange, sorted(grid.contexts))
        exchange.tell([Letter(102, Rejection("late"), "rejection")], 5.0)
    assert len(replies) == 5
    assert "client-102 is left out: the message could not be sent: Failed to push" in caplog.text


def test_messages_expire_when_the_server_stops_waiting():
    grid, exchange = make()
    seen = []
    push = grid.push_messages

    def watched(messages):
        seen.extend(messages)
        return push(messages)

    grid.push_messages = watched
    ask(exchange, [101], timeout=7.0)
    assert seen[0].metadata.ttl == 7.0


class Unreadable(MemoryGrid):
    """As Flower does it: a reply that it cannot read costs all replies of the same call."""

    def __init__(self, error, poisoned):
        super().__init__(quick_settings(), nodes=6, app=echo)
        self.error, self.poisoned = error, poisoned

    def pull_messages(self, message_ids):
        found = super().pull_messages(message_ids)
        if any(reply.metadata.src_node_id in self.poisoned for reply in found):
            raise self.error
        return found


@pytest.mark.parametrize(
    "error",
    [ValueError("Expecting value"), KeyError("Tree"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")],
)
def test_a_reply_that_flower_cannot_read_costs_its_sender_alone(error, caplog):
    grid = Unreadable(error, {103})
    exchange = exchange_on(grid)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        lost = {101, 102, 104, 105, 106} - set(ask(exchange, sorted(grid.contexts)))
    # The first time, whoever happens to come with it is lost too; but nobody has to be waited for.
    assert "taken one by one from now on" in caplog.text
    assert all(f"client-{node} is left out" in caplog.text for node in lost)

    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        replies = ask(exchange, sorted(grid.contexts))
    assert sorted(replies) == [101, 102, 104, 105, 106]
    assert "client-103 is left out: the reply cannot be read" in caplog.text


def test_a_superlink_that_is_gone_is_no_clients_fault():
    grid = Unreadable(ConnectionError("refused"), {103})
    with pytest.raises(ConnectionError):
        ask(exchange_on(grid), sorted(grid.contexts))


def test_an_endless_reason_takes_no_time_and_one_line(caplog):
    def tamper(partition, action, reply):
        return error_in_place_of(reply, "a" * 5_000_000) if partition == 2 else reply

    grid, exchange = make(tamper)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert len(ask(exchange, sorted(grid.contexts))) == 5
    assert "client client-103 is left out: error 2: aaa" in caplog.text
    assert len(caplog.text) < 1000


def error_in_place_of(reply, reason):
    request = Message(content(), reply.metadata.src_node_id, "train")
    request.metadata.__dict__["_message_id"] = reply.metadata.reply_to_message_id
    return Message(Error(2, reason), reply_to=request)


def test_nobody_waits_for_a_notice_to_be_read():
    def tamper(partition, action, reply):
        return None if action == "query.rejection" else reply

    grid, exchange = make(tamper)
    follow_ups = deque([Letter(101, Rejection("late"), "rejection")])
    messages = (question(node) for node in (102, 103))
    replies = [letter.node_id for letter, _ in exchange.stream(messages, Wait(60.0), follow_ups)]
    assert replies == [102, 103]
    assert grid.sent[0] == ("query.rejection", 101)


def test_follow_ups_go_out_in_the_same_exchange():
    _, exchange = make(max_in_flight=1)
    follow_ups = deque()
    seen = []
    for letter, _ in exchange.stream([question(101)], Wait(5.0), follow_ups):
        seen.append(letter.node_id)
        if seen == [101]:
            follow_ups += [question(node) for node in (103, 102)]
    assert seen == [101, 103, 102]


def test_a_reply_of_another_kind_is_left_out(caplog):
    def tamper(partition, action, reply):
        reply.metadata.__dict__["_message_type"] = "query.describe"
        return reply

    _, exchange = make(tamper)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert not ask(exchange, [101])
    assert "client client-101 is left out: the reply is of another kind, describe" in caplog.text


def test_an_error_of_many_nodes_is_told_once(caplog):
    def tamper(partition, action, reply):
        return error_in_place_of(reply, "DataError: own trouble" if partition == 2 else "boom")

    _, exchange = make(tamper)
    for _ in range(2):  # the next call tells it again
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="flwr"):
            assert not ask(exchange, range(101, 107))
        *first, last = [record.getMessage() for record in caplog.records]
        assert len(first) == 2
        assert "train: client client-103 is left out: error 2: DataError: own trouble" in first
        told = next(line for line in first if line.endswith("is left out: error 2: boom"))
        others = {f"client-{node}" for node in (101, 102, 104, 105, 106)} - set(told.split())
        expected = ", ".join(sorted(others))
        assert len(others) == 4
        assert last == f"train: 4 more left out for the same error (error 2: boom): {expected}"


def test_a_reply_that_its_request_refuses_is_left_out_where_nobody_else_takes_it(caplog):
    grid, _ = make()
    exchange, refused = exchange_on(grid, believed=0), []
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert ask(exchange, [101, 102]) == []
        letters = [question(103)]
        taken = exchange.stream(
            letters, Wait(5.0), refuse=lambda letter, why: refused.append(letter)
        )
        assert list(taken) == []
    assert "train: client client-101 is left out: nobody is believed" in caplog.text
    assert "client-103" not in caplog.text
    assert refused == letters

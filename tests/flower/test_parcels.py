import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from http_errors import http_error

from feddag_flwr.flower import parcels
from feddag_flwr.flower.parcels import BoundedReplies
from feddag_flwr.flower.private import ReplyHead, RuntimeObjects


def reply_to(number, values, sender=7):
    """Return a reply as a node makes it."""
    asked = Message(RecordDict(), dst_node_id=sender, message_type="train")
    asked.metadata.__dict__["_message_id"] = f"asked-{number}"
    content = RecordDict({"arrays": ArrayRecord({"x": Array(np.asarray(values, np.float32))})})
    reply = Message(content, reply_to=asked)
    reply.metadata.__dict__["_src_node_id"] = sender
    return reply


class Store:
    """What a SuperLink holds of replies, each object with the number of looks until it has come."""

    def __init__(self):
        self.answers, self.objects, self.looks, self.deleted = {}, {}, {}, []
        self.errors = []

    def put(self, reply, *, sender=None, wait=0):
        """Hold a reply; its objects come after so many looks at them."""
        objects = {key: each.deflate() for key, each in get_all_nested_objects(reply).items()}
        parts = tuple(each.object_id for each in iterate_object_tree(get_object_tree(reply)))
        self.objects |= objects
        self.looks |= dict.fromkeys(objects, wait)
        told = reply.metadata
        sender = told.src_node_id if sender is None else sender
        head = ReplyHead(reply.object_id, told.reply_to_message_id, sender, parts)
        self.answers[head.answers] = head
        return head

    def heads(self, message_ids):
        if self.errors:
            raise self.errors.pop()
        return [self.answers.pop(each) for each in message_ids if each in self.answers]

    def content(self, part):
        if part not in self.objects:
            raise LookupError("a part of it is missing for good")
        self.looks[part] -= 1
        return self.objects[part] if self.looks[part] < 0 else b""

    def delete(self, head):
        self.deleted.append(head.message_id)

    message = staticmethod(RuntimeObjects.message)


@pytest.fixture(autouse=True)
def passing_time(monkeypatch):
    """Let a second pass with each look at the clock."""
    now = iter(range(10**6))
    monkeypatch.setattr(parcels.time, "monotonic", lambda: next(now))


def values_of(message):
    return message.content["arrays"]["x"].numpy().tolist()


def test_a_whole_reply_is_taken_once_and_deleted_at_the_superlink():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    head = store.put(reply_to(1, [1.0, 2.0]))
    taken = inbox.take(["asked-1", "asked-2"])
    assert [values_of(message) for message in taken.messages] == [[1.0, 2.0]]
    assert taken.messages[0].metadata.message_id == head.message_id
    assert store.deleted == [head.message_id]
    assert inbox.take(["asked-2"]) == ([], {})


def test_a_reply_that_trickles_in_holds_up_nobody():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    store.put(reply_to(1, [1.0]), wait=4)
    assert inbox.take(["asked-1", "asked-2"]) == ([], {})
    store.put(reply_to(2, [2.0], sender=8))
    assert [values_of(each) for each in inbox.take(["asked-1", "asked-2"]).messages] == [[2.0]]
    found = []
    while not found:
        found = inbox.take(["asked-1"]).messages
    assert values_of(found[0]) == [1.0]


def test_a_reply_that_never_ends_is_forgotten_with_its_bytes():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    head = store.put(reply_to(1, [1.0]), wait=10**6)
    for _ in range(5):
        assert inbox.take(["asked-1"]) == ([], {})
    inbox.drop("asked-1")
    assert store.deleted == [head.message_id]
    inbox.drop("asked-1")  # nothing is left to forget
    assert store.deleted == [head.message_id]


def test_a_large_reply_is_refused_before_all_of_it_is_read():
    store = Store()
    inbox = BoundedReplies(store, 50_000)
    head = store.put(reply_to(1, np.zeros(10**6)))
    store.put(reply_to(2, [2.0], sender=8))
    taken = inbox.take(["asked-1", "asked-2"])
    assert [values_of(message) for message in taken.messages] == [[2.0]]
    assert taken.refused == {"asked-1": "the reply has more than 50,000 bytes (max-reply-size)"}
    assert head.message_id in store.deleted


def test_a_reply_of_very_many_parts_is_refused_before_any_is_read(monkeypatch):
    monkeypatch.setattr(parcels, "MOST_PARTS", 3)
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    head = store.put(reply_to(1, [1.0]))
    assert len(head.parts) > 3
    reason = inbox.take(["asked-1"]).refused["asked-1"]
    assert reason == f"the reply has {len(head.parts)} parts, 3 at most are read"
    assert all(look == 0 for look in store.looks.values())
    assert store.deleted == []  # that would lock the SuperLink's database


def test_garbage_costs_its_sender_alone():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    head = store.put(reply_to(1, [1.0]))
    store.objects[head.parts[0]] = b"garbage"
    missing = store.put(reply_to(2, [2.0], sender=8))
    del store.objects[missing.parts[0]]
    store.put(reply_to(3, [3.0], sender=9))
    taken = inbox.take(["asked-1", "asked-2", "asked-3"])
    assert [values_of(message) for message in taken.messages] == [[3.0]]
    assert taken.refused["asked-1"].startswith("the reply cannot be read: ")
    assert taken.refused["asked-2"] == (
        "the reply cannot be read: LookupError: a part of it is missing for good"
    )


def test_a_reply_that_gives_itself_out_as_another_s_is_refused():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    store.put(reply_to(1, [1.0], sender=8), sender=7)
    taken = inbox.take(["asked-1"])
    reason = "the reply claims another sender, or to answer another message"
    assert taken == ([], {"asked-1": reason})


def test_a_superlink_that_is_busy_costs_nothing_and_one_that_refuses_ends_the_run():
    store = Store()
    inbox = BoundedReplies(store, 10**6)
    store.put(reply_to(1, [1.0]))
    store.errors = [http_error(403), http_error(503)]
    assert inbox.take(["asked-1"]) == ([], {})
    with pytest.raises(type(http_error(403))):
        inbox.take(["asked-1"])
    assert len(inbox.take(["asked-1"]).messages) == 1

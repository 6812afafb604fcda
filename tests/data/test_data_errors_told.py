"""What the server is told of faults in a client's data: not the values that its owner is shown."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from memory_grid import quick_settings

from feddag_flwr.client.driver import _values_kept_here
from feddag_flwr.data.samples import DataError
from feddag_flwr.simulation import InProcessGrid, load_client_app

SECRET = "Erika Mustermann"


def test_an_error_tells_the_server_the_same_unless_it_says_otherwise():
    assert DataError("a file is missing").told == "a file is missing"
    error = DataError(f"label {SECRET!r} is none", told="the label is none")
    assert (str(error), error.told) == (f"label {SECRET!r} is none", "the label is none")


TABLES = {
    "a cell": ("age,label\n50,0\n51,1\n%s,0\n52,1\n", {}),
    "a column of names": (
        "name,label\n" + "".join(f"{SECRET} {row},{row % 2}\n" for row in range(1100)),
        {},
    ),
    "a label": ("age,label\n50,0\n51,1\n52,%s\n", {"class_map": "0=well, 1=ill"}),
    "a category": ("age,sort,label\n50,%s" + "x" * 300 + ",0\n51,b,1\n52,b,1\n", {}),
}


@pytest.mark.parametrize("fault", TABLES)
def test_no_value_of_a_table_travels_in_an_error(tmp_path, caplog, fault):
    """Neither when a client introduces itself nor when it is asked later: its own log has it."""
    text, changes = TABLES[fault]
    path = tmp_path / "ward.csv"
    path.write_text(text.replace("%s", SECRET))
    settings = quick_settings(scenario="own", dataset="table", modality="tabular", **changes)
    node = {"data-path": str(path), "client-name": "ward"}
    grid = InProcessGrid(load_client_app(), settings, [node])
    content = RecordDict({"info": ConfigRecord({"round": 0})})
    message = Message(content, 101, "query.describe")
    (reply,) = grid.pull_messages(grid.push_messages([message]))
    assert reply.has_error() and "ward.csv" in reply.error.reason
    assert SECRET not in reply.error.reason
    assert SECRET in caplog.text


def test_an_error_in_a_later_round_is_told_so_too(tmp_path, caplog):
    """The table is damaged once the client has been let in; the error is raised in its app."""
    error = DataError(f"label {SECRET!r} is none", told="the label is none").of("client 'ward'")
    assert error.told == "client 'ward': the label is none"
    with pytest.raises(DataError) as raised, _values_kept_here():
        raise error
    assert str(raised.value) == error.told
    assert SECRET in caplog.text
    with pytest.raises(DataError, match="a file is missing"), _values_kept_here():
        raise DataError("a file is missing")

"""One thing that the server learns of a client."""

from dataclasses import dataclass

from flwr.app import RecordDict


@dataclass(frozen=True)
class Item:
    """One thing that the server learns, when and in how many bytes, the message left aside."""

    when: str
    what: str
    content: str
    nbytes: int


def nbytes_of(message: RecordDict, *keys: str) -> int:
    """Bytes of the arrays of a name, or whose names begin so where it ends in a dot."""
    arrays = message.array_records["arrays"]
    return sum(
        len(array.data)
        for name, array in arrays.items()
        if any(name.startswith(key) if key.endswith(".") else name == key for key in keys)
    )

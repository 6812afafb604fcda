"""What every request is: it knows its action, how it travels, and what reply to expect."""

from __future__ import annotations

from typing import Protocol, TypeVar

from flwr.app import RecordDict

from feddag_flwr.records.header import RequestHeader
from feddag_flwr.records.limits import Limits

Reply_co = TypeVar("Reply_co", covariant=True)


class Request(Protocol[Reply_co]):
    """One question to one client; a frozen value.

    Attributes
    ----------
    action : str
        Who answers it on the client: ``train``, ``evaluate``, or one of these or ``query`` with a
        name after a dot, which is a Python identifier (``query.vectors``).
    counted_as : str
        Under which its bytes are counted and logs speak of it: train, profile, ..
    header : RequestHeader or None
        Whom it is for; None where that is not known yet.
    """

    @property
    def action(self) -> str:
        """Who answers it."""
        ...

    @property
    def counted_as(self) -> str:
        """Under which it is counted."""
        ...

    @property
    def header(self) -> RequestHeader | None:
        """Whom it is for."""
        ...

    def encode(self) -> RecordDict:
        """Write the request."""
        ...

    def read_reply(self, content: RecordDict, limits: Limits) -> Reply_co:
        """Read and check the reply to this request.

        Raises
        ------
        RecordError
            With the reason.
        """
        ...

    def least_down(self) -> int:
        """Bytes of the values that the request has to carry, without headers: each part once."""
        ...

    def least_up(self) -> int:
        """Bytes of the weights that the reply has to carry; its other arrays come on top."""
        ...

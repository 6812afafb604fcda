"""The ClientApp: every action of the registry, answered by the one driver."""

from __future__ import annotations

from flwr.clientapp import ClientApp

from feddag_flwr.client.driver import answer
from feddag_flwr.client.registry import ACTIONS, CUSTOM

app = ClientApp()

for _message_type in (*ACTIONS, *CUSTOM):
    _category, _, _action = _message_type.partition(".")
    _register = getattr(app, _category)
    (_register(_action) if _action else _register())(answer)

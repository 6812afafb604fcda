"""From the action that a request names to the function that answers it on the client.

Built-in actions are listed here, so that Flower's ClientApp can register them without importing
what answers them. The algorithm that a run's setting ``algorithm`` names as
``package.module:Class`` brings its own: a mapping ``ACTIONS``, from action to function, in that
module, or in the module ``client`` of that package. Requests for those travel as ``train.custom``,
``evaluate.custom`` or ``query.custom``, with the action's name; a client looks it up in the run's
own algorithm and nowhere else, so that no message can make it import anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from flwr.app import RecordDict

from feddag_flwr.records.values import RecordError, info_of, shown, value_of
from feddag_flwr.registry import RegistryError

if TYPE_CHECKING:
    from feddag_flwr.client.action import Action

_BASE = "feddag_flwr.client.actions"
_ALGORITHMS = "feddag_flwr.algorithms"

# From an action to the module whose ACTIONS hold it.
ACTIONS: dict[str, str] = {
    **dict.fromkeys(
        (
            "query.describe",
            "query.rejection",
            "query.candidate_losses",
            "query.validation_losses",
            "train",
            "evaluate",
        ),
        _BASE,
    ),
    **dict.fromkeys(
        (
            "train.profile",
            "train.full_profile",
            "query.directions",
            "query.private_profile",
            "train.dual",
            "evaluate.dual",
        ),
        f"{_ALGORITHMS}.feddag.client",
    ),
    **dict.fromkeys(("train.fomaml",), f"{_ALGORITHMS}.per_fedavg.client"),
    **dict.fromkeys(("train.ditto",), f"{_ALGORITHMS}.ditto.client"),
    **dict.fromkeys(("query.vectors",), f"{_ALGORITHMS}.pacfl.client"),
    **dict.fromkeys(("train.choice",), f"{_ALGORITHMS}.ifca.client"),
    **dict.fromkeys(("query.gradient",), f"{_ALGORITHMS}.cfl_gp.client"),
    **dict.fromkeys(("train.mixture", "query.responsibilities"), f"{_ALGORITHMS}.fedrc.client"),
}
CUSTOM = ("train.custom", "evaluate.custom", "query.custom")
_NAME = "custom-action"


def as_sent(action: str, content: RecordDict) -> str:
    """Return the message type that an action travels as; note in `content` what is not built in."""
    if action in ACTIONS:
        return action
    content.config_records["info"][_NAME] = action
    return f"{action.partition('.')[0]}.custom"


def load_action(message_type: str, content: RecordDict, algorithm: str) -> Action:
    """Import the function that answers a message.

    Raises
    ------
    RecordError
        The message asks for an action that nobody offers.
    RegistryError
        The run's own `algorithm` cannot be imported.
    """
    if message_type not in CUSTOM:
        module = ACTIONS[message_type]
        return cast("Mapping[str, Action]", import_module(module).ACTIONS)[message_type]
    name, own = value_of(info_of(content), _NAME, str), own_actions(algorithm)
    if name not in own or name.partition(".")[0] != message_type.partition(".")[0]:
        raise RecordError(
            f"{_NAME} = {shown(name)}: algorithm {algorithm!r} offers {', '.join(sorted(own))}"
        )
    return own[name]


def own_actions(algorithm: str) -> Mapping[str, Action]:
    """Return the actions of a user's own algorithm; `RegistryError` if it brings none."""
    module_name, colon, _ = algorithm.partition(":")
    if not colon:
        raise RegistryError(f"setting algorithm = {algorithm!r} brings no actions of its own")
    try:
        module = import_module(module_name)
        if hasattr(module, "__path__") and find_spec(f"{module_name}.client"):
            module = import_module(f"{module_name}.client")
        return cast("Mapping[str, Action]", module.ACTIONS)
    except Exception as error:  # whatever importing foreign code raises
        raise RegistryError(f"setting algorithm = {algorithm!r}: {error}") from error

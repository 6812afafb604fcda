"""What clients' private profiles have cost so far, on the server: every request is counted."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from feddag_flwr.federation.context import FederationContext
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.words import promise
from feddag_flwr.run_folder import PRIVACY

logger = logging.getLogger("flwr")


class PrivacyLedger:
    """Counts requests for private profiles, in a file that a stopped run finds again.

    A line is on the disk before the request goes out, so that no profile is missing: a run that
    goes back to a checkpoint still knows of what was asked after it. Clients answer a second
    request of the same run alike, but one that was started anew in between cannot know: each
    request counts. Where a line could not be written or read, there is no epsilon to tell.
    """

    def __init__(self, context: FederationContext) -> None:
        self._context = context
        settings = context.settings
        self._budget = ProfileBudget.of(
            settings.privacy.profile_epsilon, settings.privacy.profile_delta
        )
        self._asked: Counter[str] = Counter()
        self._unknown = ""

    def read(self) -> None:
        """Take over what a stopped run has asked for."""
        try:
            lines = (self._context.folder.path / PRIVACY).read_text().splitlines()
            self._asked = Counter(str(json.loads(line)["client"]) for line in lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._unknown = f"{PRIVACY} cannot be read: {error}"

    def note(self, name: str, server_round: int) -> None:
        """Count a request, before it is sent."""
        self._asked[name] += 1
        try:
            self._context.folder.append_now(PRIVACY, {"client": name, "round": server_round})
        except OSError as error:
            self._unknown = f"{PRIVACY} could not be written: {error.strerror}"
        if self._asked[name] > 1:
            logger.warning(
                "client %s is asked for its private profile %d times: %s",
                name, self._asked[name], self.in_words(),
            )  # fmt: skip

    @property
    def epsilon(self) -> float | None:
        """Of the client that was asked most often; None where that is not known."""
        most = max(self._asked.values(), default=0)
        return None if self._unknown else self._budget.epsilon(most)

    def in_words(self) -> str:
        """Say what is promised, and what is not."""
        if self.epsilon is None:
            return f"no epsilon can be told: {self._unknown}"
        return promise(self.epsilon, self._budget.delta)

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` says."""
        return {
            "epsilon": self.epsilon,
            "delta": self._budget.delta,
            "most-profiles-of-a-client": max(self._asked.values(), default=0),
            "promise": self.in_words(),
        }

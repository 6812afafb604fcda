"""What private profiles and private training have cost so far: every request is counted."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from typing import Any

from feddag_flwr.privacy.training import PrivacyCosts, Spent
from feddag_flwr.privacy.words import promise
from feddag_flwr.run_folder import PRIVACY, RunFolder
from feddag_flwr.settings import Settings

logger = logging.getLogger("flwr")


class PrivacyLedger:
    """Counts requests for private profiles and private training, in a file that lasts.

    A line is on the disk before the request goes out, so that none is missing: a run that goes back
    to a checkpoint still knows of what was asked after it. Clients answer a second request for a
    profile, or for their number of samples, in the same run alike, but one that was started anew in
    between cannot know: each request counts. Where a line could not be written or read, there is no
    epsilon to tell.
    """

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self._folder = folder
        self._privacy = settings.privacy
        self.costs = PrivacyCosts.of(settings)
        self._spent: defaultdict[str, Spent] = defaultdict(Spent)
        self._told: dict[str, int] = {}
        self._warned: set[str] = set()
        self._unknown = ""

    def read(self) -> None:
        """Take over what a stopped run has asked for."""
        try:
            for line in (self._folder.path / PRIVACY).read_text().splitlines():
                self._take(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._unknown = f"{PRIVACY} cannot be read: {error}"

    def _take(self, line: dict[str, Any]) -> None:
        name = str(line["client"])
        if "samples" in line:
            self._told[name] = int(line["samples"])
        elif "steps" in line:
            self._add(name, Spent(0, int(line["number"]), int(line["steps"])))
        else:
            self._add(name, Spent(1))

    def note(self, name: str, server_round: int) -> None:
        """Count a request for a profile, before it is sent."""
        self._add(name, Spent(1))
        self._write({"client": name, "round": server_round})
        if self._spent[name].profiles > 1:
            logger.warning(
                "client %s is asked for its private profile %d times: %s",
                name, self._spent[name].profiles, self.in_words(),
            )  # fmt: skip

    def note_training(self, name: str, server_round: int, passes: int) -> int:
        """Count a request to train, before it is sent; return the client's number of samples.

        That is what the client has told before, 0 where it has not: then it is asked, and counted.
        """
        plan = self.costs.training
        assert plan is not None
        told = self._told.get(name, 0)
        asked = Spent(0, int(not told), passes * plan.steps)
        self._add(name, asked)
        line = {"client": name, "round": server_round, "steps": asked.steps}
        self._write(line | {"number": asked.numbers})
        beyond = not self._spent[name].within(self.costs.planned)
        if beyond and name not in self._warned and not self._unknown:
            self._warned.add(name)
            logger.warning(
                "client %s has been asked for more than training-epsilon = %g is for (a resumed "
                "run asks again): %s",
                name, self._privacy.training_epsilon, self.in_words(),
            )  # fmt: skip
        return told

    def heard(self, name: str, server_round: int, samples: int) -> None:
        """Keep the number of samples that a client has told, for it not to be asked again."""
        if name not in self._told:
            self._told[name] = samples
            self._write({"client": name, "round": server_round, "samples": samples})

    def _add(self, name: str, asked: Spent) -> None:
        self._spent[name] = self._spent[name].plus(asked)

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._folder.append_now(PRIVACY, line)
        except OSError as error:
            self._unknown = f"{PRIVACY} could not be written: {error.strerror}"

    @property
    def epsilon(self) -> float | None:
        """Of the client of which most was asked; None where that is not known."""
        if self._unknown:
            return None
        distinct = set(self._spent.values())
        most = [
            each for each in distinct if not any(each.within(other) for other in distinct - {each})
        ]
        return max(map(self.costs.epsilon, most), default=0.0)

    def in_words(self) -> str:
        """Say what is promised, and what is not."""
        if (epsilon := self.epsilon) is None:
            return f"no epsilon can be told: {self._unknown}"
        return promise(
            epsilon,
            self.costs.delta,
            profile=self._privacy.profile_on,
            training=self._privacy.training_on,
        )

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` says."""
        spent, plan = self._spent.values(), self.costs.training
        told: dict[str, Any] = {"epsilon": self.epsilon, "delta": self.costs.delta}
        if self._privacy.profile_on:
            told["most-profiles-of-a-client"] = max((each.profiles for each in spent), default=0)
        if plan is not None:
            told |= {
                "most-steps-of-a-client": max((each.steps for each in spent), default=0),
                "noise-multiplier": plan.noise,
                "clip": plan.clip,
                "sampling-rate": plan.rate,
            }
        return told | {"promise": self.in_words()}

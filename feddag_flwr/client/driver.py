"""Runs actions to their end, with the trainer that the run's settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from flwr.app import Context, Error, Message, RecordDict

from feddag_flwr.client.action import Training
from feddag_flwr.client.privacy import check_action
from feddag_flwr.client.registry import load_action
from feddag_flwr.data.samples import DataError
from feddag_flwr.registries import TRAINERS
from feddag_flwr.settings import Settings
from feddag_flwr.trainers import LocalTrainer, RandomState, TrainJob, TrainResult

logger = logging.getLogger("flwr")


def answer(message: Message, context: Context) -> Message:
    """Answer one message."""
    running = _Running(message, context)
    trainer: LocalTrainer | None = None
    while (job := running.job) is not None:
        if trainer is None:
            trainer = TRAINERS.load(Settings.from_run_config(context.run_config).training.trainer)
        running.go_on(trainer.train([job])[0])
    return running.reply()


def answer_batch(
    messages: Sequence[Message], contexts: Sequence[Context], trainer: LocalTrainer
) -> list[Message | Exception]:
    """Answer messages of many clients in lockstep: what waits to be trained is trained together.

    Each reply, or what was raised in its place, is what `answer` gives, as far as the trainer's
    results are. If the trainer raises, all actions fail that waited for it.
    """
    answers: dict[int, Message | Exception] = {}
    waiting: dict[int, tuple[_Running, TrainJob]] = {}

    def advance(index: int, step: Callable[[], _Running]) -> None:
        """Bring an action to its next job, with random draws of its own, or to its answer."""
        try:
            running = step()
            if running.job is None:
                answers[index] = running.reply()
            else:
                waiting[index] = running, replace(running.job, random_state=RandomState.now())
        except Exception as error:
            answers[index] = error

    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        advance(index, partial(_Running, message, context))
    while waiting:
        group = dict(waiting)
        waiting.clear()
        try:
            results = trainer.train([job for _, job in group.values()])
        except Exception as error:
            answers |= dict.fromkeys(group, error)
            break
        for (index, (running, job)), result in zip(group.items(), results, strict=True):
            state = result.random_state or job.random_state
            advance(index, partial(running.go_on, result, state))
    return [answers[index] for index in range(len(messages))]


@contextmanager
def _values_kept_here() -> Iterator[None]:
    """Keep from the server, which is told of errors, what an error quotes of the data."""
    try:
        yield
    except DataError as error:
        if error.told == str(error):
            raise
        logger.error("%s", error)
        raise DataError(error.told) from None


class _Running:
    """An action under way."""

    def __init__(self, message: Message, context: Context) -> None:
        self.job: TrainJob | None = None
        self._message = message
        self._content: RecordDict | Error = RecordDict()
        check_action(message.metadata.message_type, context.run_config)
        kind, algorithm = message.metadata.message_type, str(context.run_config.get("algorithm"))
        action = load_action(kind, message.content, algorithm)
        with _values_kept_here():
            outcome = action(message.content, context)
        if isinstance(outcome, RecordDict | Error):
            self._content = outcome
        else:
            self._training: Training = outcome
            self.go_on(None)

    def reply(self) -> Message:
        """Return the reply, once there is no job."""
        return Message(self._content, reply_to=self._message)

    def go_on(self, result: TrainResult | None, state: RandomState | None = None) -> _Running:
        """Hand over what came of `job`, None to begin, with generators as its client left them."""
        if state is not None:
            state.restore()
        try:
            with _values_kept_here():
                self.job = next(self._training) if result is None else self._training.send(result)
        except StopIteration as done:
            self.job, self._content = None, done.value
        return self

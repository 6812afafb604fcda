"""Runs actions to their end, with the trainer that the run's settings name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flwr.app import Context, Error, Message, RecordDict

from feddag_flwr.client.action import Training
from feddag_flwr.client.registry import load_action
from feddag_flwr.registries import TRAINERS
from feddag_flwr.settings import Settings
from feddag_flwr.trainers import LocalTrainer, TrainJob, TrainResult
from feddag_flwr.training.random_state import RandomState


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

    Each reply is what `answer` gives, as far as the trainer's results are.

    Parameters
    ----------
    messages : sequence of Message
        One for each client.
    contexts : sequence of Context
        Those of the clients, in the same order.
    trainer : LocalTrainer
        Receives the next job of every action that waits for one. If it raises, all of these
        actions fail.

    Returns
    -------
    list of Message or Exception
        The reply to each message, or what its action raised.
    """
    lockstep = _Lockstep()
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        lockstep.start(index, message, context)
    while group := lockstep.waiting:
        lockstep.waiting = {}
        try:
            results = trainer.train([job for _, job in group.values()])
        except Exception as error:
            lockstep.answers |= dict.fromkeys(group, error)
            break
        for (index, (running, job)), result in zip(group.items(), results, strict=True):
            lockstep.go_on(index, running, job, result)
    return [lockstep.answers[index] for index in range(len(messages))]


class _Running:
    """An action under way.

    Attributes
    ----------
    job : TrainJob or None
        What it waits for; None once the reply is there.
    """

    def __init__(self, message: Message, context: Context) -> None:
        self.job: TrainJob | None = None
        self._message = message
        self._content: RecordDict | Error = RecordDict()
        kind, algorithm = message.metadata.message_type, str(context.run_config.get("algorithm"))
        outcome = load_action(kind, message.content, algorithm)(message.content, context)
        if isinstance(outcome, RecordDict | Error):
            self._content = outcome
        else:
            self._training: Training = outcome
            self._advance(None)

    def go_on(self, result: TrainResult) -> None:
        """Hand over what came of `job`."""
        self._advance(result)

    def reply(self) -> Message:
        """Return the reply, once there is no job."""
        return Message(self._content, reply_to=self._message)

    def _advance(self, result: TrainResult | None) -> None:
        try:
            self.job = next(self._training) if result is None else self._training.send(result)
        except StopIteration as done:
            self.job, self._content = None, done.value


class _Lockstep:
    """Actions of many clients, each with random draws of its own.

    Attributes
    ----------
    answers : dict of int to Message or Exception
        By place of the message.
    waiting : dict of int to (_Running, TrainJob)
        Actions that wait for something to be trained.
    """

    def __init__(self) -> None:
        self.answers: dict[int, Message | Exception] = {}
        self.waiting: dict[int, tuple[_Running, TrainJob]] = {}

    def start(self, index: int, message: Message, context: Context) -> None:
        """Begin to answer a message."""
        try:
            self._note(index, _Running(message, context))
        except Exception as error:
            self.answers[index] = error

    def go_on(self, index: int, running: _Running, job: TrainJob, result: TrainResult) -> None:
        """Hand over what came of a job, with the random generators as its client left them."""
        state = result.random_state or job.random_state
        try:
            if state is not None:
                state.restore()
            running.go_on(result)
            self._note(index, running)
        except Exception as error:
            self.answers[index] = error

    def _note(self, index: int, running: _Running) -> None:
        if running.job is None:
            self.answers[index] = running.reply()
        else:
            job = replace(running.job, random_state=RandomState.now())
            self.waiting[index] = running, job

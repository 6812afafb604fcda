"""One model for all and one of each client's own, trained beside a run to say what it gains."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from feddag_flwr.aggregation import weighted_mean
from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.checkpoints.model_arrays import arrays_of, model_of
from feddag_flwr.engine.aggregator import make_aggregator
from feddag_flwr.engine.gains import ALONE, CLUSTERED, ONE, Compared
from feddag_flwr.engine.resumption import PREFIX, evaluations_from_json, evaluations_to_json
from feddag_flwr.federation.context import FederationContext, listed
from feddag_flwr.federation.outliers import without_outliers
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.metrics import Evaluation, load_metrics, metric_names
from feddag_flwr.models.flat import layout_of
from feddag_flwr.postprocessors.chain import Postprocessors
from feddag_flwr.records import EvaluateRequest, Model, TrainReply, TrainRequest
from feddag_flwr.traffic import ARRAYS, SENT, Traffic, total

logger = logging.getLogger("flwr")

# Epochs that clients train each kind of model for one epoch that the run has them train an encoder.
# As this is so in the run's second half alone, both together cost half their sum of its training.
SHARE = {ONE: 0.36, ALONE: 0.24}
# Groups of arrays in a checkpoint.
_START, _ONE, _MEAN = PREFIX + "start", PREFIX + "one-model", PREFIX + "one-model-mean"


@dataclass
class _Models:
    """What is trained beside the run, and what is owed to it.

    Own models all start from `start`. `mean` is the mean of the one model over its last `turns`
    turns, by which it is judged. `work` are the epochs, of all encoders, that the run has had
    clients train in its second half; `owed` those of each client since it trained the one model.
    """

    start: Model = field(default_factory=dict)
    one: Model = field(default_factory=dict)
    mean: Model = field(default_factory=dict)
    turns: int = 0
    work: int = 0
    owed: Counter[str] = field(default_factory=Counter)


class Comparison:
    """Trains and judges, beside a run, one model for all and one a client (setting ``compare``).

    In the second half of the run, every ``compare-every`` rounds, all clients that have taken part
    since the last such turn train the one model, for a share of the epochs that the run had of
    them. A client's own model needs nobody else: it is trained in one go at the end, by the client
    that judges it, and never leaves it; all for equally many epochs. Both start from the mean of
    the clusters' models at the first turn. The one model is judged by its mean over the turns of
    the run's last quarter: a single round's model swings with the clients that trained it. Nothing
    of this reaches the run, and its bytes are counted apart.

    A model that the run's algorithm trains itself is not trained again (``fedavg``, ``local``).
    """

    def __init__(self, context: FederationContext, algorithm: Algorithm) -> None:
        settings = context.settings
        self._context = context
        self._algorithm = algorithm
        # Others than the run's: what they may keep is not mixed up.
        self._aggregator = make_aggregator(settings)
        self._postprocessors = Postprocessors.of(settings.run.postprocessors)
        named = ALGORITHMS.get(settings.run.algorithm)
        self._stands_for = named.stands_for if named else ""
        self._models = _Models()
        self.num_rounds = settings.run.num_rounds
        self._judged: dict[str, dict[str, Evaluation]] = {ONE: {}, ALONE: {}}
        self._traffic = Traffic()
        self._totals = dict.fromkeys((ARRAYS, SENT), 0)

    @property
    def on(self) -> bool:
        """Whether there is anything to do."""
        return self._context.settings.run.compare

    def after_round(self, server_round: int, encoders: Mapping[str, int]) -> dict[str, Any]:
        """Take note of a round, and train if it has a turn; return what its line says of that.

        `encoders` says of each client that took part how many it has trained.
        """
        training, every = self._context.local_training(), self._context.settings.run.compare_every
        if not self._models.one and server_round <= self.num_rounds // 2:
            return {}
        amount = training.amount
        self._models.work += amount * sum(encoders.values())
        self._models.owed.update({name: amount * count for name, count in encoders.items()})
        return {} if server_round % every else self._turn(server_round)

    def judge(self, server_round: int, names: Collection[str]) -> dict[str, Any]:
        """Have clients judge both kinds of model after the last round; return what is said of it.

        What is owed is trained before, and forgotten after: a run that goes on from here is the one
        that never ended here.
        """
        kept = replace(self._models, owed=Counter(self._models.owed))
        line, models = self._turn(server_round), self._models
        epochs = max(1, round(SHARE[ALONE] * models.work / max(1, len(names))))
        with self._counted(line):
            if models.one and self._stands_for != ONE:
                self._judged[ONE] = self._ask(server_round, names, models.mean or models.one, 0)
            if models.start and self._stands_for != ALONE:
                self._judged[ALONE] = self._ask(server_round, names, models.start, epochs)
        self._models = kept
        return line

    def summary(self, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        """Return what ``summary.json`` says of it, beside the evaluations of the run's models."""
        settings, state = self._context.settings, self._context.state
        headline = load_metrics(metric_names(settings.run.metrics))[0]
        judged = {CLUSTERED: evaluations, **self._judged}
        figures = {
            model: {name: each.value(headline.name) for name, each in of_model.items()}
            for model, of_model in judged.items()
            if model != self._stands_for
        }
        compared = Compared(headline, figures, self._stands_for)
        count = len(state.clients)
        return compared.summary(state.assignments) | {
            "bytes-per-client": round(self._totals[ARRAYS] / count),
            "bytes-sent-per-client": round(self._totals[SENT] / count),
        }

    # -- what a checkpoint keeps -------------------------------------------------------------------

    def arrays(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return all models, a group each."""
        models = self._models
        if not models.one:
            return {}
        named = {_START: models.start, _ONE: models.one, _MEAN: models.mean}
        return {group: arrays_of(model) for group, model in named.items() if model}

    def notes(self) -> dict[str, Any]:
        """Return all else."""
        return {
            "turns": self._models.turns,
            "work": self._models.work,
            "owed": dict(sorted(self._models.owed.items())),
            "bytes": self._totals,
            "evaluations": {
                model: evaluations_to_json(judged) for model, judged in self._judged.items()
            },
            "postprocessors": self._postprocessors.state_dict(),
        }

    def load(
        self, arrays: Mapping[str, Mapping[str, NDArray[Any]]], notes: Mapping[str, Any]
    ) -> None:
        """Take over what `arrays` and `notes` returned."""
        models = {group: model_of(its) for group, its in arrays.items()}
        self._models = _Models(
            models.get(_START, {}),
            models.get(_ONE, {}),
            models.get(_MEAN, {}),
            notes["turns"],
            notes["work"],
            Counter(notes["owed"]),
        )
        self._totals = dict(notes["bytes"])
        metrics = load_metrics(metric_names(self._context.settings.run.metrics))
        self._judged = {
            model: evaluations_from_json(judged, metrics)
            for model, judged in notes["evaluations"].items()
        }
        self._postprocessors.load_state_dict(notes["postprocessors"])

    # -- training and judging ----------------------------------------------------------------------

    def _turn(self, server_round: int) -> dict[str, Any]:
        """Train the one model, as far as the run has trained since the last turn."""
        models, line = self._models, dict[str, Any]()
        if not models.owed:
            return line
        if not models.one:
            models.start = models.one = self._mean_of_clusters()
        if self._stands_for != ONE:
            with self._counted(line):
                line |= self._train_one(server_round)
        return line

    def _mean_of_clusters(self) -> Model:
        """Return a single-encoder model: each tensor the clusters' mean, by their samples.

        A tensor that the clusters' models lack, or have in another shape, starts at random.
        """
        context, state = self._context, self._context.state
        layout = layout_of(context.bare_model(dual=False))
        theirs = layout_of(context.bare_model(dual="secondary" in state.models[0]))
        random = layout.named(self._algorithm.random_start())
        models: list[Model] = []
        samples: list[int] = []
        for cluster, model in enumerate(state.models):
            if count := sum(member.train_samples for member in state.members(cluster)):
                found = theirs.named(model)
                alike = {n for n in random.keys() & found if random[n].shape == found[n].shape}
                models.append(layout.flat(random | {name: found[name] for name in alike}))
                samples.append(count)
        return {
            part: weighted_mean([model[part] for model in models], samples) for part in models[0]
        }

    def _train_one(self, server_round: int) -> dict[str, Any]:
        """Let clients train the one model; it becomes their aggregate, as in FedAvg."""
        models, settings = self._models, self._context.settings
        asked = sorted(models.owed)
        replies = self._train(server_round, asked)
        failed = sorted(set(asked) - replies.keys())
        if failed:
            logger.warning("comparison: no valid reply from %s", listed(failed))
        for name in replies:
            del models.owed[name]
        processed = self._postprocessors.on_server(replies, server_round)
        usable = without_outliers(processed, settings.deployment.max_update_ratio).values()
        samples = [reply.samples for reply in usable]
        trained = {
            part: self._aggregator.aggregate([each.parts[part] for each in usable], samples, before)
            for part, before in models.one.items()
            if usable
        }
        if trained and all(weights.is_finite for weights in trained.values()):
            models.one = trained
        self._take_into_mean(server_round)
        return {"replied": len(replies), "failed": failed}

    def _take_into_mean(self, server_round: int) -> None:
        models = self._models
        if 4 * server_round <= 3 * self.num_rounds:
            models.mean, models.turns = {}, 0
        elif models.turns:
            counts = [models.turns, 1]
            models.mean = {
                part: weighted_mean([before, models.one[part]], counts)
                for part, before in models.mean.items()
            }
            models.turns += 1
        else:
            models.mean, models.turns = models.one, 1

    def _train(self, server_round: int, names: Collection[str]) -> dict[str, TrainReply]:
        """Ask clients to train the one model, each for its share of what is owed."""
        context, models = self._context, self._models
        config = context.local_training()
        amounts = {name: max(1, round(SHARE[ONE] * models.owed[name])) for name in names}
        replies: dict[str, TrainReply] = context.ask(
            TrainRequest(
                context.header(name, server_round),
                dict(models.one),
                config.with_amount(amounts[name]),
            )
            for name in context.largest_first(context.connected(names))
        )
        return replies

    def _ask(
        self, server_round: int, names: Collection[str], model: Model, epochs: int
    ) -> dict[str, Evaluation]:
        """Have clients judge a model on their test data, after training on their own."""
        context = self._context
        config = LocalTrainingConfig.of(context.settings.training)
        replies = context.ask(
            EvaluateRequest(
                context.header(name, server_round), dict(model), adapt_epochs=epochs, config=config
            )
            for name in context.largest_first(context.connected(names))
        )
        return {name: reply.evaluation for name, reply in replies.items()}

    @contextmanager
    def _counted(self, line: dict[str, Any]) -> Iterator[None]:
        """Count the bytes of a block apart from the run's, in a line and in all."""
        with self._context.exchange.counting(self._traffic):
            yield
        counts = self._traffic.take()
        if not any(map(total, counts.values())):
            return
        for what in self._totals:
            added = total(counts[what])
            line[what] = line.get(what, 0) + added
            self._totals[what] += added

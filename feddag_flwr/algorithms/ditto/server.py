"""Ditto: every client has a model of its own, held near the global one."""

from __future__ import annotations

from feddag_flwr.algorithms.algorithm import RoundReplies
from feddag_flwr.algorithms.ditto.messages import PERSONAL, DittoTrainRequest, personal_parts
from feddag_flwr.algorithms.ditto.settings import DittoSettings
from feddag_flwr.algorithms.fedavg.server import FedAvg
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.records import Model


class Ditto(FedAvg):
    """FedAvg, and beside it personal models v_k with a pull to the global model w.

    Source: Li, Hu, Beirami, Smith 2021, "Ditto: Fair and Robust Federated Learning Through
    Personalization" (ICML), Algorithm 1 with FedAvg as the global solver; details from the authors'
    public code (litian96/ditto, flearn/trainers_MTL/ditto.py). A participant trains w as in FedAvg
    (lines 4, 5), and its own v_k by steps v_k <- v_k - eta (grad F_k(v_k) + lambda (v_k - w)) from
    where it was left (line 6), w being the global model as received. A client is judged by v_k.
    lambda = 1 (``ditto-lambda``), as in that code's scripts ``run_*_ditto_lam1.sh``; there is no
    choice of lambda by client.

    Exact: the objective, the step, the same batches for both models. lambda = 0 is training alone,
    to the bit; the global model is FedAvg's, to the bit. Adapted: as many steps for v_k as for w,
    ``local-epochs`` of the run's optimiser (the paper's s may differ); v_k begins as the common
    start; the global mean counts samples, as in FedAvg here (the paper: evenly). A client that has
    never taken part is judged by w, one unseen in training too.

    Bytes: two models down and two up for a participant. The server keeps v_k for the simulation,
    where a deployed client would keep its own, and send and get one model. Training is twice
    FedAvg's.
    """

    def begin(self) -> None:
        """Begin as FedAvg; nobody has a model of its own yet."""
        super().begin()
        self.personal: dict[str, Model] = {}
        self._start = self.random_start()

    def train_request(self, server_round: int, name: str) -> DittoTrainRequest:
        """Send the global model and the client's own."""
        header, config = self.context.header(name, server_round), self.local_training(name)
        own = self.personal.get(name, self._start)
        parts = dict(self.model_of(name)) | {PERSONAL + part: own[part] for part in own}
        pull: float = self.settings.own(DittoSettings).lambda_
        return DittoTrainRequest(header, parts, config, pull)

    def judged_model_of(self, name: str) -> Model:
        """Judge a client by its own model, if it has one."""
        return self.personal.get(name) or super().judged_model_of(name)

    def update(self, round_replies: RoundReplies) -> None:
        """Average the global model, and keep the personal ones that did not overflow."""
        super().update(round_replies)
        for name, reply in round_replies.replies.items():
            own = personal_parts(reply.parts)
            if all(weights.is_finite for weights in own.values()):
                self.personal[name] = own

    def state_dict(self) -> AlgorithmState:
        """Keep the personal models where their users find them."""
        return AlgorithmState(models=dict(self.personal))

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the personal models back."""
        self.personal = dict(kept.models)
        self._start = self.random_start()

"""An algorithm on a federation that never met: its steps, one by one."""

from feddag_flwr.aggregators.mean import Mean
from feddag_flwr.algorithms.algorithm import RoundPlan, RoundReplies
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.run_folder import RunFolder


class Bench:
    """Stands for a strategy; what it has not itself is the algorithm's."""

    def __init__(self, algorithm, settings):
        self.context = FederationContext(settings, RunFolder(settings), Mean())
        self.algorithm = algorithm(self.context)

    def __getattr__(self, name):
        return getattr(self.algorithm, name)

    @property
    def state(self):
        return self.context.state

    @state.setter
    def state(self, state):
        self.context.state = state

    def before_round(self, server_round, names):
        del server_round, names
        self.algorithm._recluster_if_due()
        self.algorithm._sharing.before_round(self.state)

    def aggregate(self, server_round, replies, asked=()):
        plan = RoundPlan([], frozenset(asked), {})
        self.algorithm.update(RoundReplies(server_round, plan, replies))

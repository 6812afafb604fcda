"""The project's own ClientApp under the clock."""

from latency_apps.message_clock import ClockedApp, Moment

IMPORTS_BEGIN = Moment.now()

from client_app.app import app as client  # noqa: E402 - the clock runs already
from feddag_flwr.trainers.sequential import SequentialTrainer  # noqa: E402

app = ClockedApp(client, IMPORTS_BEGIN)
SequentialTrainer.train = app.timed(SequentialTrainer.train)  # type: ignore[method-assign]

"""The project's own ClientApp under the clock."""

from latency_apps.message_clock import ClockedApp, Moment

IMPORTS_BEGIN = Moment.now()

from client_app import app as client  # noqa: E402 - the clock runs already

app = ClockedApp(client.app, IMPORTS_BEGIN)
for name in ("train_primary", "train_secondary"):
    setattr(client, name, app.timed(getattr(client, name)))

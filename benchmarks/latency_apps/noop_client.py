"""A client that answers at once with nothing."""

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from latency_apps.message_clock import ClockedApp, Moment

silent = ClientApp()


@silent.train()
def train(message: Message, context: Context) -> Message:
    """Answer."""
    del context
    return Message(RecordDict(), reply_to=message)


app = ClockedApp(silent, Moment.now())

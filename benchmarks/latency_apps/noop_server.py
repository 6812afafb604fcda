"""A server that sends empty messages to all nodes, round by round, and waits for the answers."""

import time

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

TIMEOUT = 600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds.

    Raises
    ------
    RuntimeError
        An answer is missing.
    """
    config = context.run_config
    nodes: list[int] = []
    while len(nodes) < int(config["num-clients"]):
        time.sleep(0.5)
        nodes = list(grid.get_node_ids())
    for _ in range(int(config["num-rounds"])):
        messages = [Message(RecordDict(), node, "train") for node in nodes]
        answers = exchange(grid, messages, float(config["poll-seconds"]))
        if len(answers) < len(nodes) or any(each.has_error() for each in answers):
            raise RuntimeError(f"{len(answers)} answers of {len(nodes)} nodes")


def exchange(grid: Grid, messages: list[Message], poll_seconds: float) -> list[Message]:
    """Use Flower's own exchange; or ask for the answers at shorter intervals than it does."""
    if not poll_seconds:
        return list(grid.send_and_receive(messages, timeout=TIMEOUT))
    deadline = time.monotonic() + TIMEOUT
    waiting = set(grid.push_messages(messages))
    answers: list[Message] = []
    while waiting and time.monotonic() < deadline:
        for answer in grid.pull_messages(waiting):
            waiting.discard(answer.metadata.reply_to_message_id)
            answers.append(answer)
        time.sleep(poll_seconds)
    return answers

"""Simulated hospitals behind Flower: a ClientApp that hands each message to its site's responder."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from roiae.wire.contract import TASKS
from roiae_client.answering.responder import Responder
from roiae_client.flower.messages import answer

PARTITION = "partition-id"  # Flower's key for which of the simulated nodes a context belongs to
WHICH = "which"  # an engine's own query: which of the sites is this node?
_QUERY = "query."


def client_app(responder_of: Callable[[int], AbstractContextManager[Responder]]) -> ClientApp:
    """A ClientApp that answers every request of the contract.

    Args:
        responder_of: opens the responder of the site in this place; called for every message.
    """
    app = ClientApp()

    def respond(message: Message, context: Context) -> Message:
        with responder_of(_place(context)) as responder:
            return answer(responder, message)

    def which(message: Message, context: Context) -> Message:
        return Message(RecordDict({"config": ConfigRecord({"place": _place(context)})}), reply_to=message)

    app.train()(respond)
    app.evaluate()(respond)
    for kind in TASKS:
        if kind.startswith(_QUERY):
            app.query(kind.removeprefix(_QUERY))(respond)
    app.query(WHICH)(which)
    return app


def _place(context: Context) -> int:
    return int(context.node_config[PARTITION])

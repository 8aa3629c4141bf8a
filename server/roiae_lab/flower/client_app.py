"""A simulated hospital: a ClientApp that hands requests to a site and sends back its reply.

Whatever goes wrong, what leaves is a `Reason`; the text stays in this machine's log.
"""

import logging
from collections.abc import Callable

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from roiae.errors import Reason, RefusalError
from roiae.site.answers import Site
from roiae.wire.contract import Reply, Request, parse_task
from roiae.wire.packing import pack, unpack
from roiae.wire.upload import packed_reply

CLIENT_APP_RAISED = 2  # Flower's code for an application's error
log = logging.getLogger(__name__)


def client_app(site_of: Callable[[Context], Site]) -> ClientApp:
    """A ClientApp that answers every request of the contract, and says which site it is.

    Args:
        site_of: the site that answers in a context; called for every message, so it should remember what it opened.
    """
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        try:
            request = read_request(message)
            reply = packed_reply(request, site_of(context).answer(request))
        except RefusalError as refusal:
            log.warning("request refused: %s", refusal)
            return Message(Error(CLIENT_APP_RAISED, refusal.reason), reply_to=message)
        except Exception:
            log.exception("request failed")
            return Message(Error(CLIENT_APP_RAISED, Reason.SITE_FAILED), reply_to=message)
        return Message(reply_record(reply), reply_to=message)

    def identify(message: Message, context: Context) -> Message:
        return Message(RecordDict({"config": ConfigRecord({"site": site_of(context).name})}), reply_to=message)

    app.train()(answer)
    app.evaluate()(answer)
    for name in ("keys", "statistics", "probe", "scores"):
        app.query(name)(answer)
    app.query("identify")(identify)
    return app


def read_request(message: Message) -> Request:
    content = message.content
    task = parse_task(message.metadata.message_type, str(content.config_records["config"]["task"]))
    return Request(task, unpack(content.array_records["arrays"]["packed"].data))


def reply_record(reply: Reply, nonce: str = "") -> RecordDict:
    """
    Args:
        nonce: as `pack` takes it.
    """
    return RecordDict(
        {
            "arrays": ArrayRecord({"packed": Array(*pack(reply.arrays, nonce))}),
            "metrics": MetricRecord({**reply.metrics, "seconds": reply.seconds}),
        }
    )

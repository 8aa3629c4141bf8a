"""What stays in the SuperLink's database, and goes.

Flower keeps a request that was given up, a reply that nobody fetched, and the parts of both, until some node calls for
their run after it has ended; a request that is sent anew lies beside the first. A hospital that never fetches, or that
connects anew all the time, would fill the disk. Here each hospital has one request and one reply in the database at
most, and what nobody can ask for any more is deleted within seconds.
"""

import logging
import shutil
import sqlite3
import threading
import time
from pathlib import Path

from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.date import now
from flwr.supercore.state.schema.corestate_models import ObjectPushSession, ObjectPushSessionRoot
from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
from flwr.supercore.state.schema.objectstore_models import StoredObject
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

SWEEP_SECONDS = 5.0
# Once the run knows of a reply, it has no row of its own any more; its parts are fetched within a second of the last.
ORPHAN_SECONDS = 60.0

MIN_QUOTA, SHARE = 2**30, 4  # bytes that the database may have in any case, and of what is free one in so many

log = logging.getLogger(__name__)


class Sweeper:
    """Deletes from a SuperLink's database what nobody can ask for any more."""

    def __init__(self, state: SqlLinkState) -> None:
        self._state = state
        self._orphans: dict[str, float] = {}  # roots that belong to no message → monotonic seconds when first seen so

    def start(self) -> None:
        threading.Thread(target=self._run, name="sweeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(SWEEP_SECONDS)
            try:
                self.sweep()
            except Exception:  # a database that is busy or full now is swept the next time
                log.exception("the SuperLink's database could not be swept")

    def sweep(self) -> None:
        with self._state.session():
            self._drop_messages()
            self._drop_uploads()
            self._drop_orphans()

    def _drop_messages(self) -> None:
        """Requests but the last to each node, those whose time is over, and the replies to them."""
        past: set[str | None] = set()
        asked: set[int | None] = set()
        with self._state.session() as session:
            until = MessageIns.created_at + MessageIns.ttl
            latest_first = select(MessageIns.message_id, MessageIns.dst_node_id, until)
            for message, node, end in session.execute(latest_first.order_by(MessageIns.created_at.desc())):
                if node in asked or end is None or end < now().timestamp():
                    past.add(message)
                asked.add(node)
            if not past:
                return
            replies = session.scalars(select(MessageRes.message_id).where(MessageRes.reply_to_message_id.in_(past)))
            roots = {*past, *replies}
            self._state.delete_messages({str(message) for message in past})
            for root in roots:
                self._state.object_store.delete(str(root))

    def _drop_uploads(self) -> None:
        """Those whose parts have stopped coming, as Flower does itself where somebody asks for such a part."""
        with self._state.session() as session:
            ended = select(ObjectPushSession.session_id).where(ObjectPushSession.expires_at <= now())
            for upload in list(session.scalars(ended)):
                self._state._cleanup_push_session(upload, cleanup_messages=True)

    def _drop_orphans(self) -> None:
        """Objects that belong to no message and to no upload, once they have for a while."""
        with self._state.session() as session:
            owned = (MessageIns.message_id, MessageRes.message_id, ObjectPushSessionRoot.root_object_id)
            query = select(StoredObject.object_id).where(StoredObject.ref_count == 0)
            for column in owned:
                query = query.where(StoredObject.object_id.not_in(select(column).where(column.is_not(None))))
            seen = time.monotonic()
            roots = [str(root) for root in session.scalars(query)]
            self._orphans = {root: self._orphans.get(root, seen) for root in roots}
            for root, since in self._orphans.items():
                if seen - since > ORPHAN_SECONDS:
                    self._state.object_store.delete(root)


def quota(database: Path) -> int:
    """Bytes that the database may grow to: however it is filled, the disk keeps room for runs and their ledgers."""
    return max(MIN_QUOTA, shutil.disk_usage(database.parent).free // SHARE)


def bound(most: int) -> None:
    """Let SQLite refuse what would make a database that is opened from now on larger than so many bytes.

    The SuperLink then fails with 500, hospitals are told to try again, and the next sweep makes room.
    """

    @event.listens_for(Engine, "connect")
    def at_connect(connection: sqlite3.Connection, record: object) -> None:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {most // page}")


def compact(database: Path) -> None:
    """Give the disk back what the database of an earlier start has no use for any more."""
    if database.exists():
        connection = sqlite3.connect(database)
        try:
            connection.execute("VACUUM")
        finally:
            connection.close()

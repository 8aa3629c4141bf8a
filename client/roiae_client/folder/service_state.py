"""What the parts of a running hospital tell each other, and `status`: small files in its folder's `state/`."""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from roiae.files import write_json

log = logging.getLogger(__name__)

CONNECTED_SECONDS = 60.0  # Flower's own patience: a node heard from longer ago counts as gone


@dataclass(frozen=True)
class Activity:
    """The request that is being answered, or was last."""

    request: str
    done: bool
    time: float  # seconds since the epoch


class ServiceState:
    """
    Args:
        folder: the hospital's `state/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"  # that our executor shows to the SuperNode
        self.heard = folder / "heard"  # touched whenever the coordinator answers as to a registered node
        self._paused, self._withdrawn = folder / "paused", folder / "withdrawn"
        self._activity = folder / "activity.json"

    @property
    def paused(self) -> bool:
        return self._paused.exists()

    def pause(self, paused: bool) -> None:
        if paused:
            self._paused.touch()
        else:
            self._paused.unlink(missing_ok=True)

    @property
    def withdrawn(self) -> bool:
        return self._withdrawn.exists()

    def withdraw(self) -> None:
        self._withdrawn.touch()

    @property
    def connected(self) -> bool:
        """Whether the coordinator knew this hospital's node within the last minute."""
        return self.heard.exists() and time.time() - self.heard.stat().st_mtime < CONNECTED_SECONDS

    @property
    def activity(self) -> Activity | None:
        return Activity(**json.loads(self._activity.read_bytes())) if self._activity.exists() else None

    def note(self, request: str, done: bool) -> None:
        """For `status`; a disk that is full keeps nobody from answering."""
        content = {"request": request, "done": done, "time": time.time()}
        try:
            write_json(self._activity, content)
        except OSError as error:
            log.warning("%s cannot be written (%s)", self._activity, error.strerror)

    def forget(self) -> None:
        """Of a service that is starting: nothing was heard or asked yet."""
        self.heard.unlink(missing_ok=True)
        self._activity.unlink(missing_ok=True)

"""What a reply of the present run can weigh: the working process knows, the gateway is told through a small file."""

import json
from pathlib import Path

from roiae.files import write_json
from roiae_server.gateway.settings import REPLY_BYTES

REPLY = "reply.json"  # in the coordinator's superlink/


def write_reply_size(superlink: Path, size: int) -> None:
    write_json(superlink / REPLY, {"bytes": size})


class ReplySize:
    """The file as it is now.

    Args:
        superlink: the coordinator's folder of that name.
    """

    def __init__(self, superlink: Path) -> None:
        self._path, self._stamp = superlink / REPLY, 0
        self._bytes = REPLY_BYTES

    @property
    def bytes(self) -> int:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._bytes, self._stamp = int(json.loads(self._path.read_bytes())["bytes"]), stamp
        except FileNotFoundError:
            pass  # no run has begun
        return self._bytes

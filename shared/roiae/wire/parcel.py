"""The parts of one Flower message, counted as they come, before anything is made of them.

A message travels as objects: `TYPE CHILDREN LENGTH`, a zero byte, and a body. Contents of arrays are cut into
`ArrayChunk`s; an `Array` lists its chunks by place, and may name one many times: what is a megabyte on the wire could
become a terabyte in memory.
"""

import json
from collections.abc import Iterable

from roiae.errors import Reason, RefusalError

RECORDS_BYTES = 262_144  # of all of a message but its arrays' contents
_MIN_CHUNK = 2**20  # bytes; Flower cuts arrays at 5 MiB
_OBJECTS = 16  # of a message without chunks: itself, its content, the records, one array
_CHUNK = b"ArrayChunk "


class Parcel:
    """One message that is being fetched.

    Args:
        ids: of its objects, as they were announced.
        arrays_bytes: that its arrays can weigh, packed.

    Raises:
        RefusalError: `bad-request`: it has more objects than such a message can have.
    """

    def __init__(self, ids: Iterable[str], arrays_bytes: int = 0) -> None:
        self.missing: list[str] = []
        self.parts: dict[str, bytes] = {}
        self._arrays_bytes = self._arrays_left = arrays_bytes
        self._records_left = RECORDS_BYTES
        self._expect(ids)

    def allow(self, arrays_bytes: int, ids: Iterable[str]) -> None:
        """Once it is known what the arrays can weigh, expect the objects that hold their contents, too.

        Raises:
            RefusalError: `bad-request`: they are more than such arrays have.
        """
        self._arrays_left += arrays_bytes - self._arrays_bytes
        self._arrays_bytes = arrays_bytes
        self._expect(ids)

    def add(self, content: bytes) -> None:
        """The content of the first that is missing.

        Raises:
            RefusalError: `bad-request`: the message is larger than such a message can be.
        """
        if content.startswith(_CHUNK):
            self._arrays_left -= len(content)
        else:
            self._records_left -= len(content)
        if self._arrays_left < 0 or self._records_left < 0:
            raise _refusal(f"more than {self._arrays_bytes} bytes of arrays, or {RECORDS_BYTES} of all else")
        self.parts[self.missing.pop(0)] = content

    def check_arrays(self) -> None:
        """
        Raises:
            RefusalError: `bad-request`: its arrays name chunks so often that they are larger than what came.
            Exception: any, where an object is none.
        """
        total = sum(self._assembled(part) for part in self.parts.values() if part.startswith(b"Array "))
        if total > self._arrays_bytes:
            raise _refusal(f"arrays of {total} bytes, which are more than {self._arrays_bytes}")

    def _assembled(self, content: bytes) -> int:
        head, _, body = content.partition(b"\0")
        chunks = head.decode().split(" ")[1].split(",")
        return sum(len(self.parts[chunks[place]]) for place in json.loads(body)["arraychunk_ids"])

    def _expect(self, ids: Iterable[str]) -> None:
        most = _OBJECTS + self._arrays_bytes // _MIN_CHUNK
        for one in ids:
            self.missing.append(one)
            if len(self.missing) + len(self.parts) > most:
                raise _refusal(f"more than {most} objects")


def _refusal(message: str) -> RefusalError:
    return RefusalError(Reason.BAD_REQUEST, f"a message of {message} is fetched no further")

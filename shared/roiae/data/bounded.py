"""Files that may be broken, read without trusting the lengths in them."""

import io
from pathlib import Path


class BoundedFile(io.BufferedReader):
    """A file that makes room for what it holds alone, however much a broken length asks for."""

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(path)
        super().__init__(raw)
        self._size = raw.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))

"""Writing a file so that a reader, or a machine that lost power, never finds half of it."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """The whole content or what was there before, never a part, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

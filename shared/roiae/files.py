"""Writing a file so that a reader, or a machine that lost power, never finds half of it."""

import json
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
    _sync(path.parent)


def write_json(path: Path, content: object) -> None:
    """As `write_atomically`.

    Raises:
        ValueError: it holds NaN or infinity, which JSON does not have.
    """
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """As `write_atomically`, and nobody but its owner has ever been able to read it."""
    path.with_name(path.name + ".tmp").touch(mode=0o600)
    write_atomically(path, content)


def create_private(path: Path, content: bytes) -> None:
    """A new file that nobody but its owner has ever been able to read.

    Raises:
        FileExistsError: there is a file of that name; it is left as it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names of a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

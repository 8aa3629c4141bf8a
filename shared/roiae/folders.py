"""Making the folder of a coordinator or a hospital: whole, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roiae.errors import SetupError


@contextmanager
def new_folder(path: Path, marker: str) -> Iterator[None]:
    """A folder that is absent or empty, to be filled by the block; if the block fails, nothing of it stays.

    Args:
        marker: the file by which such a folder is known; the block writes it last.

    Raises:
        SetupError: the folder holds something already, or cannot be written.
    """
    existed = _refuse_taken(path, marker)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException as error:  # an interruption too: a half-made folder would pass for somebody's
        _take_back(path, keep=existed)
        if isinstance(error, OSError):
            raise SetupError(
                f"{path}: cannot be written ({error.strerror}). Give a folder that you may write to."
            ) from error
        raise


def _refuse_taken(path: Path, marker: str) -> bool:
    """Whether the folder exists, and is empty then."""
    try:
        if not path.exists():
            return False
        if not path.is_dir():
            raise SetupError(f"{path}: is a file. Give the path of a folder.")
        if (path / marker).exists():
            raise SetupError(f"{path}: has a {marker} already, and its keys are kept. Give another folder.")
        if any(path.iterdir()):
            raise SetupError(
                f"{path}: is not empty. Give a new folder; if an earlier `init` was killed here, delete it first."
            )
    except OSError as error:
        raise _closed(path, error) from error
    return True


def require_folder(path: Path, marker: str, whose: str, command: str) -> None:
    """
    Args:
        marker: the file by which such a folder is known.
        whose, command: for the message: whose folder it is, and the command that makes one.

    Raises:
        SetupError: the folder is missing, is none of these, or may not be opened.
    """
    try:
        found = (path / marker).is_file()
    except OSError as error:
        raise _closed(path, error) from error
    if not found:
        raise SetupError(
            f"{path}: holds no {marker}, so it is not {whose} folder. "
            f"Give the folder that `{command}` made, or make one with it."
        )


def _closed(path: Path, error: OSError) -> SetupError:
    return SetupError(f"{path}: cannot be opened ({error.strerror}). Run this as the user who owns the folder.")


def _take_back(path: Path, keep: bool) -> None:
    if not path.is_dir():
        return
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not keep:
        path.rmdir()

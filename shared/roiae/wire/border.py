"""The border between what a peer sent and everything else: what goes wrong on the peer's side ends there."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roiae.errors import Reason, RefusalError
from roiae.text import shown


@contextmanager
def peers_fault(what: str) -> Iterator[None]:
    """Around code that does nothing but read one peer's message: whatever it raises refuses that message alone.

    It is as broad as `Exception` because protobuf, JSON, safetensors, NumPy, pydantic and Flower's own readers raise
    what they like on hostile bytes: RecursionError, AssertionError, OverflowError, KeyError. A list of types would be a
    list of those that somebody has met. It is safe because nothing in here reaches a network, a disk or our own state:
    no other than the message can be at fault, and nothing is left half done. Sizes are bounded before, so a MemoryError
    is one message's; a machine that is out of memory fails outside again. KeyboardInterrupt and SystemExit pass. The
    message says where it was raised, for the case that the defect is ours.

    Args:
        what: is read, as a log line names it.

    Raises:
        RefusalError: `bad-request`, or what the code itself has refused with.
    """
    try:
        yield
    except RefusalError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        message = f"{what} cannot be read ({type(error).__name__} at {where}: {shown(error)})"
        raise RefusalError(Reason.BAD_REQUEST, message) from error

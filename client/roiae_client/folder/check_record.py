"""Which state of a hospital's data the last check passed."""

import json
import logging
from pathlib import Path

from roiae.errors import DataError
from roiae.files import write_json

RECORD = "check.json"
log = logging.getLogger(__name__)


def checked_fingerprint(client_folder: Path) -> str | None:
    """The fingerprint of the data that the last check passed; None where none did.

    A run compares it with `SiteData.fingerprint`: another one means that the data changed since.
    """
    try:
        record = json.loads((client_folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    fingerprint = record.get("fingerprint") if isinstance(record, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def require_unchanged(client_folder: Path, fingerprint: str) -> None:
    """Refuse data that are not those of the last check; where none was made, say so in the log.

    Raises:
        DataError: images, boxes or subjects have changed since.
    """
    checked = checked_fingerprint(client_folder)
    if checked is None:
        log.warning("these data have passed no check: type `roiae-client check %s`", client_folder)
    elif checked != fingerprint:
        raise DataError(
            f"{client_folder}: the data have changed since they were checked. "
            f"Type `roiae-client check {client_folder}` and look at what it says; the next request is then answered."
        )


def record_check(client_folder: Path, fingerprint: str | None) -> None:
    """Remember what a check passed; None for a check that failed, after which nothing counts as checked.

    Raises:
        DataError: the client folder cannot be written.
    """
    path = client_folder / RECORD
    try:
        write_json(path, {"fingerprint": fingerprint})
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}). Make the client folder yours to write."
        ) from error

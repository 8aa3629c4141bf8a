"""Tables as spreadsheets write them."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from roiae.errors import DataError, ManifestError


def table_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line, from 1, and stripped fields of each record that is not blank; the first is the header.

    Commas, semicolons or tabs, whichever is most frequent in the first line; with or without a byte order mark.

    Raises:
        DataError: the file cannot be read.
        ManifestError: it is not UTF-8 text, or no table.
    """
    text = _text(path)
    first_line = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                yield line, fields
            line = reader.line_num + 1  # a quoted field may span lines: a record is named by its first
    except csv.Error as error:
        raise ManifestError(f"{path}:{line}: not a CSV table ({error}).") from error


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{path}:{line}: not UTF-8 text. Save the table as 'CSV UTF-8'.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ManifestError(f"{path}:{line}: binary data. Save the table as 'CSV UTF-8'.")
    return text

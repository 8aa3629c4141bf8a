"""The one way for text that somebody else wrote into a log, a terminal, a report or an error.

A name of a field, a message of an exception, a line of another process: each can hold escape sequences that rewrite a
terminal, line ends that forge a log line, marks that reverse reading, or a megabyte. `shown` takes all of that out.
"""

import unicodedata

from pydantic import ValidationError

MOST = 200  # characters
MAX_PROBLEMS = 5  # of one message that does not fit its schema


def shown(text: object, most: int = MOST) -> str:
    """One line of at most `most` characters, all of them printable; what is not is written as Python escapes it.

    Control and format characters (escape sequences, line ends, bidirectional overrides), surrogates and combining
    marks, which pile up beyond their line, are escaped; a cut is marked with an ellipsis.
    """
    whole = str(text)
    line = "".join(map(_escaped, whole[:most]))
    return line if len(whole) <= most and len(line) <= most else line[: most - 1] + "…"


def shown_lines(text: object, most_lines: int, most: int = MOST) -> str:
    """Text of several lines, each as `shown`; the last of them are left out where there are too many."""
    lines = str(text).split("\n", most_lines)
    left_out = ["…"] if len(lines) > most_lines else []
    return "\n".join([shown(line, most) for line in lines[:most_lines]] + left_out)


def problems(error: ValidationError) -> str:
    """What does not fit a schema: place and kind of each problem, never the values.

    The places hold names that the sender chose.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{shown('.'.join(map(str, p['loc'])) or 'it', 60)}: {p['type']}" for p in found[:MAX_PROBLEMS]]
    return "; ".join(told) + ("; …" if len(found) > MAX_PROBLEMS else "")


def _escaped(character: str) -> str:
    if character.isprintable() and not unicodedata.category(character).startswith("M"):
        return character
    return character.encode("unicode_escape").decode("ascii")

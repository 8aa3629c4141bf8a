"""`roiae-client ledger`: what has left this hospital, for those who answer for it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roiae.console.terminal import say

if TYPE_CHECKING:
    from rich.table import Table

    from roiae_client.answering.ledger import Line

_WIDTH = 240  # of a table that goes into a file or a pipe
_ASKED = {
    "train": "train the model on our frames",
    "evaluate": "measure the model's quality here",
    "query.keys": "a public key, to take part in domain-shift scores",
    "query.statistics": "statistics of our latents, sealed for the other hospitals",
    "query.probe": "one step of the provenance probe, sealed likewise",
    "query.scores": "domain-shift scores of our frames",
    "query.identify": "which site and version this is",
    "request-key": "to know the coordinator's new key by its CA",
    "unfinished": "a line that a crash cut short",
    "unknown": "something unknown",
}


def ledger(
    folder: Annotated[Path, typer.Argument(help="The hospital's folder, with its ledger.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every line, and print no table.")] = False,
    last: Annotated[int, typer.Option(min=1, help="Lines of the table, from the end.")] = 20,
) -> None:
    """Show what has left this hospital, from a ledger of which every line is checked."""
    from collections import deque

    from rich.console import Console
    from rich.filesize import decimal

    from roiae.errors import SetupError
    from roiae_client.answering.ledger import LEDGER, LedgerReader
    from roiae_client.folder.site_config import SITE_CONFIG

    path = folder / LEDGER
    if not path.exists() and not (folder / SITE_CONFIG).exists():
        raise SetupError(f"{folder}: holds neither {LEDGER} nor {SITE_CONFIG}. Give the folder that `init` made.")
    reader = LedgerReader(path)
    shown: deque[Line] = deque(maxlen=last)
    answers = refusals = turned_away = leaving = 0
    claims = []
    for line in reader:
        shown.append(line)
        leaving += line.bytes
        answers += line.reason == "" and line.request != ""
        refusals += line.reason != ""
        turned_away += line.turned_away
        claims += [line.claimed] if line.claimed else []
    if not verify:
        console = Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH)
        console.print(_table(shown), highlight=False, soft_wrap=True)
    say(f"{answers} answers and {refusals} refusals, {decimal(leaving)} of arrays and numbers in all.")
    if turned_away:
        say(f"{turned_away} more requests were turned away without a line: nobody vouched for them.")
    if claims:
        say(f"{len(claims)} times {claims[-1].unknown}.")
    if reader.unfinished:
        say("The last line is unfinished: it is being written, or its reply never left.")
    if verify:
        seen = reader.acknowledged.lines
        say(f"Every line is as it was written. The coordinator has acknowledged {seen} of {reader.head.lines}.")
    say(f"Head, to compare with what the coordinator has: line {reader.head.lines}, {reader.head.hash}")


def _table(lines: "Iterable[Line]") -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    from roiae.text import shown

    table = Table(box=None, pad_edge=False)
    for heading in ("line", "when (UTC)", "what was asked", "of weights", "what left", "bytes"):
        table.add_column(heading, justify="right" if heading in ("line", "bytes") else "left", overflow="fold")
    for line in lines:
        when = line.time.removesuffix("+00:00").replace("T", " ")
        asked, left = shown(_asked(line), 60), shown(_left(line))
        table.add_row(str(line.n), when, asked, line.weights, left, decimal(line.bytes))
    return table


def _asked(line: "Line") -> str:
    asked = _ASKED.get(line.kind, line.kind)
    return f"{asked}, round {line.round}" if line.round else asked


def _left(line: "Line") -> str:
    from roiae.wire.envelope import IDENTIFY

    if line.request_key:
        return f"nothing: key {line.request_key.number} signs requests"
    if line.set_aside or line.reason:
        return f"nothing: {line.reason or 'its reply never left'}"
    if line.kind == IDENTIFY:
        return "its name, version and limits"
    parts = [
        f"{len(of)} {noun if len(of) > 1 else noun.removesuffix('s')}"
        for of, noun in ((line.arrays, "arrays"), (line.metrics, "numbers"))
        if of
    ]
    return " and ".join(parts)

"""docs/RELIABILITY.md, written of what the fault runs recorded: `python -m tests.faults.page RECORD…`"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from roiae_server.run.run_folder import installed_versions
from tests.faults.rogue import TRICKS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "RELIABILITY.md"

FAULTS = (
    "none",
    "coordinator: kill -9 at every step",
    "coordinator: kill -9 in the domain shift",
    "coordinator: SIGTERM at every step",
    "every hospital: kill -9 at every step",
    "a hospital: kill -9 in a round",
    "a hospital's executor: kill -9 in a round",
    "a hospital's supernode: kill -9 in a round",
    "a hospital: SIGTERM in a round",
    "a hospital in turn: SIGTERM at every step",
    "network: cut for 90 s",
    "network: 500 for 15 s",
    "network: 404 for 15 s",
    "network: 503 for 15 s",
    "network: 500 to one reply",
    "hospital: slower than the deadline",
    "hospital: raises at every request",
    "hospital: disk full",
    *(f"hospital: {trick}" for trick in TRICKS),
    "key never enrolled",
    "key removed in a round",
    "certificate expired",
    "a replayed request",
    "a forged request, a forged ledger head",
    "a bundle with code in it",
    "calls from outside",
    "coordinator's port taken",
    "a second `start`",
)
NUMBERS = (
    "`start` of all four to the first hospital at work",
    "`start` of the coordinator to the first hospital at work, hospitals up already",
    "a round of the default model, less the slowest hospital's work",
    "an empty exchange with three hospitals",
    "memory of the coordinator's processes over 100 rounds",
)

HEAD = """\
# Reliability

A run ends by itself whatever process is killed, whatever line is cut and for how long up to the round deadline, and its
weights have the very bytes of a run in which nothing happened. A hospital that lags, breaks, cheats or is removed is
left out by name, with the reason in `rounds.jsonl`, `participation.json`, `status` and the exit code, and nobody waits
for it beyond the deadline. The table says for which faults this was shown, the last line for which it was not.

Made by `make faults`: one coordinator and four hospitals (three sources, one held out) as real processes on loopback
over TLS, small phantom data. While each run went on, every state file was read ten times a second; none was ever torn.
"""

COLUMNS = """\
Recovery is in seconds, from the moment at which what failed is there again: for a process until it has its work again,
for the network until the round in hand is complete, for a hospital that is left out until the round goes on without it.
After kill -9 most of it is the minute for which Flower holds on to the old session. A round is lost where it lacks an
update of a hospital that was not left out, or was trained again. A stall is a time in which nothing moved: no step
ended, and no request was sent, begun or answered.

| fault | outcome | recovery: median (goal) | each | rounds lost | longest stall, s |
|---|---|---|---|---|---|
"""


def page(samples: Iterable[Mapping[str, Any]]) -> str:
    """The page as Markdown; what was not run, or did not end well, is named at its end.

    Args:
        samples: one a fault: fault, commit, outcome, recovery and the goal of it (seconds), rounds_lost, stall
            (seconds). One a number: fault, commit, value, goal, samples.
    """
    known = {sample["fault"]: sample for sample in samples}
    text = (
        HEAD
        + f"\n{_commits(known.values())}; {_machine()}\n\n"
        + COLUMNS
        + "".join(_row(known[fault]) for fault in FAULTS if fault in known)
    )
    if numbers := [known[number] for number in NUMBERS if number in known]:
        text += "\n## Numbers\n\n| what | goal | measured | each |\n|---|---|---|---|\n"
        text += "".join(f"| {n['fault']} | {n['goal']} | {n['value']} | {_each(n['samples'])} |\n" for n in numbers)
    if missing := [fault for fault in (*FAULTS, *NUMBERS) if fault not in known]:
        text += f"\nNot shown to hold this time: {'; '.join(missing)}.\n"
    return text


def _row(sample: Mapping[str, Any]) -> str:
    recovery = sample["recovery"]
    goal = f" ({sample['goal']:.0f})" if "goal" in sample else ""
    middle = f"{median(recovery):.1f}{goal}" if recovery else ""
    stall = f"{sample['stall']:.0f}" if sample["stall"] else ""
    cells = (sample["fault"], sample["outcome"], middle, _each(recovery), str(sample["rounds_lost"]), stall)
    return f"| {' | '.join(cells)} |\n"


def _each(seconds: Iterable[float]) -> str:
    return " ".join(f"{one:.1f}" for one in seconds)


def commit() -> str:
    """The checkout's own."""
    return _git("rev-parse", "--short", "HEAD") + (" with changes" if _git("status", "--porcelain") else "")


def _commits(samples: Iterable[Mapping[str, Any]]) -> str:
    """What the samples were taken on; of all but the most frequent commit, the rows."""
    rows: dict[str, list[str]] = {}
    for sample in samples:
        rows.setdefault(sample["commit"], []).append(sample["fault"])
    most, *others = sorted(rows, key=lambda taken: -len(rows[taken]))
    return f"Commit {most}" + "".join(f"; {other} for {', '.join(rows[other])}" for other in others)


def _machine() -> str:
    """Without a name or a path: nobody learns where it stands."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {"Python": platform.python_version(), **installed_versions()}
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory; "
        + ", ".join(f"{package} {number}" for package, number in versions.items() if package != "roiae")
        + "."
    )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    records = [Path(name) for name in sys.argv[1:]]
    samples = [json.loads(line) for record in records for line in record.read_text().splitlines()]
    PAGE.write_text(page(samples))
    print(f"{PAGE.relative_to(ROOT)}: {len(samples)} samples")


if __name__ == "__main__":
    main()

"""Reads every state file of a federation all the time, as an operator's tools might, while processes are killed."""

import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.processes import RealFederation

EVERY_SECONDS = 0.1


class Watch:
    """A context in which the files are read, several times a second."""

    def __init__(self, federation: "RealFederation") -> None:
        self._federation = federation
        self.torn: list[str] = []
        self.longest_stall = 0.0  # seconds in which nothing moved: no step ended, nothing was asked, begun or answered
        self._began = self._moved = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        seen: tuple[Any, ...] = ()
        while not self._ended.wait(EVERY_SECONDS):
            now, moves = time.monotonic(), self._moves()
            if not seen and "asked" in str(moves):  # the first round begins
                seen, self._moved = moves, now
            if seen and moves != seen:
                self.longest_stall = max(self.longest_stall, now - self._moved)
                seen, self._moved = moves, now

    def _moves(self) -> tuple[Any, ...]:
        """What changes whenever the run gets on."""
        state = self._read(self._federation.run / "state.json")
        status = self._read(self._federation.folder.path / "status.json")
        self._read(self._federation.run / "participation.json")
        sites = []
        for site in self._federation.hospitals:
            folder = self._federation.root / site
            sites.append((self._ledger(folder / "ledger.jsonl"), self._read(folder / "state" / "activity.json")))
        return state.get("completed"), {site: said["last"] for site, said in status.get("sites", {}).items()}, sites

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return {}
        except ValueError:
            self.torn.append(f"{path.name} at {time.monotonic() - self._began:.1f} s")
            return {}

    def _ledger(self, path: Path) -> int:
        """Whole lines; a last one without its end is being written, or was cut by a kill and never left."""
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        try:
            assert [json.loads(line)["n"] for line in whole] == list(range(1, len(whole) + 1))
        except (ValueError, AssertionError):
            self.torn.append(f"{path.parent.name}/{path.name} at {time.monotonic() - self._began:.1f} s")
        return len(whole)

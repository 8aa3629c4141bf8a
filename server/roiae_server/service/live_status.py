"""What `status` shows: `status.json` in the coordinator's folder, kept up by the working process."""

import logging
import os
import threading
import time
from types import TracebackType
from typing import Any

import httpx

from roiae.files import write_json
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.run.plan import Step
from roiae_server.run.progress import RunProgress, title
from roiae_server.run.records import PARTICIPATION, Line, count, participation
from roiae_server.run.run_folder import RunFolder
from roiae_server.service.site_registry import SiteRegistry

STATUS = "status.json"
EVERY_SECONDS = 1.0

log = logging.getLogger(__name__)


class LiveStatus:
    """Keeps `status.json` and the enrolment true, once a second and at every event; a context in which it does so.

    It is the federation's observer, and passes everything on to the progress that a person follows.
    """

    def __init__(self, folder: CoordinatorFolder, registry: SiteRegistry, run: RunFolder) -> None:
        self._folder, self._registry, self._run = folder, registry, run
        self._progress: RunProgress | None = None
        self._doing = {"state": "waiting", "step": "", "since": time.time()}
        self._last: dict[str, str] = {}  # by site: what became of its latest request
        self._parts, self._counted = participation(run.state.sites), 0  # of rounds.jsonl's first bytes
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_up, daemon=True)

    def __enter__(self) -> "LiveStatus":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._set(self._run.state.status, "")

    def follow(self, progress: RunProgress) -> "LiveStatus":
        """Pass on what happens from now on to this progress."""
        self._progress = progress
        return self

    def wait_for_quorum(self) -> None:
        """Until enough of the run's source hospitals are connected."""
        self._set("waiting", "")
        said: tuple[str, ...] | None = None
        while len(here := self._online()) < self._run.quorum:
            if tuple(here) != said:
                said = tuple(here)
                print(f"waiting for hospitals: {len(here)} connected ({', '.join(here) or 'none'}), "
                      f"{self._run.quorum} needed", flush=True)  # fmt: skip
            time.sleep(EVERY_SECONDS / 2)

    def asked(self, step: Step, sites: list[str]) -> None:
        self._last.update(dict.fromkeys(sites, "asked"))
        self._set("running", title(step, self._run.config))
        if self._progress:
            self._progress.asked(step, sites)

    def answered(self, step: Step, line: Line) -> None:
        self._last[line.site] = line.status + (f": {line.reason}" if line.reason else "")
        self._write()
        if self._progress:
            self._progress.answered(step, line)

    def completed(self, step: Step, done: int, steps: int) -> None:
        count(self._parts, self._run.rounds(self._counted))
        self._counted = self._run.state.rounds_bytes
        self._run.write_json(PARTICIPATION, {site: part.model_dump() for site, part in self._parts.items()})
        if self._progress:
            self._progress.completed(step, done, steps)

    def _online(self) -> list[str]:
        nodes = self._registry.nodes()
        return [site for site in self._run.sources if site in nodes and nodes[site].online]

    def _keep_up(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            try:
                self._registry.refresh()
                self._write()
            except httpx.HTTPError as error:  # the SuperLink is being started again
                log.warning("the SuperLink does not answer (%s)", type(error).__name__)

    def _set(self, state: str, step: str) -> None:
        self._doing = {"state": state, "step": step, "since": time.time()}
        self._write()

    def _write(self) -> None:
        with self._lock:
            nodes = self._registry.nodes()
            sites: dict[str, Any] = {
                site: {"online": site in nodes and nodes[site].online, "last": self._last.get(site, "")}
                for site in sorted(self._run.state.sites)
            }
            content = {
                "pid": os.getpid(),
                "run": self._run.path.name,
                **self._doing,
                "updated": time.time(),
                "sites": sites,
            }
            write_json(self._folder.path / STATUS, content)

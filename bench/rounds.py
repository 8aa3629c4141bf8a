"""Whole rounds: what the federation adds to the sites' work, memory by number of sites, a job beside the plain loop.

`python -m bench.rounds KIND ...` measures in a process of its own, whose peak memory is then this job's alone.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import plain, samples
from bench.timing import child
from roiae.config import Role, build_config, merge
from roiae.method.hardware import resolve
from roiae.method.training import initial_arrays
from roiae.site.answers import Site
from roiae_lab.simulated_federation import SimulatedFederation
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.run.federation import Federation
from roiae_server.run.plan import Step
from roiae_server.run.records import Line
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Transport


class RoundsDoneError(Exception):
    """The rounds of phase 1 are done."""


class Clock:
    """An observer: seconds of each round, and of the sites' own work in it."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.wall, self.work = rounds, list[float](), list[float]()

    def asked(self, step: Step, sites: list[str]) -> None:
        self.began = time.perf_counter()
        self.work.append(0.0)

    def answered(self, step: Step, line: Line) -> None:
        self.work[-1] += line.seconds or 0.0

    def completed(self, step: Step, done: int, steps: int) -> None:
        self.wall.append(time.perf_counter() - self.began)
        if done == self.rounds:
            raise RoundsDoneError


def rounds(sites: list[Site], settings: dict[str, Any], count: int, folder: Path) -> Clock:
    """Rounds of phase 1 with these sites in this process, from what is asked to what is on disk."""
    config = resolve(build_config(merge({"phase1": {"rounds": count + 1}}, settings)))
    roles: dict[str, Role] = {site.name: Role.SOURCE for site in sites}
    run, clock = RunFolder.create(folder, config, RunState(roles, {}, {})), Clock(count)

    def over(transport: Transport) -> None:
        Federation(
            run,
            transport,
            new_aggregator=lambda: FlowerAggregator(config.strategy),
            initial_arrays=lambda: initial_arrays(config.model, config.seed),
            observer=clock,
        ).run()

    try:
        SimulatedFederation(run).locally(sites, over)
    except RoundsDoneError:
        pass
    finally:
        run.close()
    return clock


def federation(sites: int, frames: int, count: int, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        hospitals = [samples.site(f"site-{i:02d}", frames, max(2, frames // 4), Path(folder)) for i in range(sites)]
        began = time.perf_counter()
        clock = rounds(hospitals, settings, count, Path(folder) / "run")
        wall = time.perf_counter() - began
    return {"wall": wall, "rounds": clock.wall, "work": clock.work, "memory": _peak()}


def plain_job(sites: int, frames: int, count: int, batch_size: int) -> dict[str, Any]:
    """The same frames and steps in the plain loop, phase 1, without a federation round it."""
    data, model = [samples.frame_set(frames) for _ in range(sites)], samples.network().train()
    began = time.perf_counter()
    for _ in range(count):
        for frame_set in data:
            plain.train(model, frame_set, samples.PHASE1, batch_size)
    return {"wall": time.perf_counter() - began, "memory": _peak()}


def _peak() -> int:
    """Bytes, the most that this process has held; Linux's `ru_maxrss` would count its parent's before it began."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(kind: str, **arguments: Any) -> dict[str, Any]:
    """One of the above in a process of its own."""
    result: dict[str, Any] = json.loads(child("bench.rounds", kind, json.dumps(arguments)).splitlines()[-1])
    return result


if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    print(json.dumps(federation(**arguments) if sys.argv[1] == "federation" else plain_job(**arguments)))

"""`make bench`: measure, print a Markdown table, write bench/results.json and docs/profile.png."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench import rounds, step
from bench.report import markdown, profile_png
from bench.timing import machine, quartiles
from roiae.method.hardware import prepare_process

RESULTS = Path(__file__).with_name("results.json")
PICTURE = Path(__file__).parents[1] / "docs" / "profile.png"
PEERS_JOB = {"sites": 2, "frames": 160, "count": 3}
ONE_EPOCH = {"phase1": {"local_epochs": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved timings of each step")
    repeats = parser.parse_args().repeats
    began = time.perf_counter()
    prepare_process(torch.get_num_threads())  # as a hospital's is; the plain loop beside ours gains by it too
    results: dict[str, Any] = {"machine": machine() | {"load_before": round(os.getloadavg()[0], 1)}}
    with_batches = {}
    for size in (16, 4):
        _say(f"steps of {size} frames")
        with_batches[size] = step.steps(size, repeats)
    keys = [f"{phase}_{what}" for phase in ("phase1", "phase2") for what in ("speedup", "over_network")]
    results["step"] = {key: with_batches[16][key][0] for key in keys} | {
        f"batch_{size}": measured for size, measured in with_batches.items()
    }
    _say("pieces of a step")
    results["pieces_ms"] = step.pieces(16, repeats)
    results["frames_ms"] = step.frame_counts(16, 20)
    results["image_size_ms"] = step.image_sizes(3)
    _say("rounds, and 2 to 64 sites")
    results["federation"] = _federation()
    _say("a job beside the plain loop")
    job = {
        "plain": rounds.measure("plain", **PEERS_JOB, batch_size=16),
        "ours": rounds.measure("federation", **PEERS_JOB, settings=ONE_EPOCH | {"train": {"batch_size": 16}}),
    }
    results["job"] = {name: _size(run) for name, run in job.items()} | _overhead(job["ours"])
    results["help_seconds"] = {name: _help(name) for name in ("roiae-server", "roiae-client")}
    results["machine"] |= {"load_after": round(os.getloadavg()[0], 1)}
    results["bench_seconds"] = time.perf_counter() - began
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PICTURE.write_bytes(profile_png(results))
    print(markdown(results))


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def _federation() -> dict[str, Any]:
    default = rounds.measure("federation", sites=3, frames=160, count=3, settings={})
    by_sites = {
        str(sites): rounds.measure("federation", sites=sites, frames=8, count=1, settings=ONE_EPOCH)
        for sites in (2, 4, 16, 64)
    }
    return {
        **_overhead(default),
        "memory_64_over_4": by_sites["64"]["memory"] / by_sites["4"]["memory"],
        "by_sites": {sites: _size(run) for sites, run in by_sites.items()},
    }


def _overhead(run: dict[str, Any]) -> dict[str, float]:
    """What the median round adds to the sites' work: its share of that, and seconds."""
    seconds = [wall - work for wall, work in zip(run["rounds"], run["work"], strict=True)]
    shares = [added / work for added, work in zip(seconds, run["work"], strict=True)]
    return {"overhead": quartiles(shares)[0], "overhead_seconds": quartiles(seconds)[0]}


def _size(run: dict[str, Any]) -> dict[str, float]:
    return {key: run[key] for key in ("wall", "memory")}


def _help(name: str) -> dict[str, float]:
    """Seconds to the answer, and of processor: on a busy machine the first says little."""
    wall, cpu = [], []
    for _ in range(5):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [str(Path(sys.executable).with_name(name)), "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - began)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall": quartiles(wall)[0], "cpu": quartiles(cpu)[0]}


if __name__ == "__main__":
    main()

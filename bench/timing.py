"""Timings that mean something on a machine that others use too: interleaved, as ratios, medians with quartiles."""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

Seconds = dict[str, list[float]]


def interleaved(works: Mapping[str, Callable[[], object]], repeats: int) -> Seconds:
    """Seconds of each work, one after the other, over and over; each has run once before it counts."""
    seconds: Seconds = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(above: list[float], below: list[float]) -> list[float]:
    """Median and quartiles of the ratios of neighbours in time."""
    return quartiles([a / b for a, b in zip(above, below, strict=True)])


def quartiles(values: list[float]) -> list[float]:
    """Median, lower and upper quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return [float(middle), float(low), float(high)]


def child(*arguments: str) -> str:
    """What a module of this folder prints when it is run in a process of its own."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout


def machine() -> dict[str, str | int]:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }

"""Whether this machine can do what it is asked: forecasts, made before a model is built or a frame is read."""

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from roiae.console.doctor import available_memory, free_disk, own_memory, size
from roiae.data.manifest import read_manifest
from roiae.data.site_data import FrameSet, default_cache_dir
from roiae.errors import DataError, Reason, RefusalError
from roiae.method.forecast import cache_bytes, request_memory
from roiae.method.hardware import find_device
from roiae.method.model import Autoencoder
from roiae.method.training import score, train_round
from roiae.wire.contract import EvaluateTask, Task, TrainTask
from roiae_client.folder.site_config import SiteConfig

_MEASURED = 4  # frames of the step that is measured; a larger batch takes no longer a frame

LEFT_FREE = 2**30  # bytes of a disk that no request takes: the ledger needs a line for every answer, others need more

_DECIDES_SPEED = {"model", "batch_size", "precision", "measure", "threads"}

Measure = Callable[[TrainTask | EvaluateTask, str], float]


class Capacity:
    """Of one hospital's machine.

    Args:
        measure: seconds a frame that a task takes on a device; measured once for each kind of it.
    """

    def __init__(self, config: SiteConfig, measure: Measure | None = None) -> None:
        self._config = config
        self._measure = measure or seconds_a_frame
        self._seconds: dict[str, float] = {}  # a frame, by kind of task
        self._cached: set[int] = set()  # sides of the models whose frames are in the cache

    def check(self, task: Task) -> None:
        """
        Raises:
            RefusalError: `too-large` for a task that needs more memory, disk or time than there is.
        """
        if find_device(self._config.device).type == "cpu":
            _check_memory(request_memory(task))
        side = task.model.image_size
        if side not in self._cached:
            check_disk(default_cache_dir(), cache_bytes(task.model, self.frames), "for frames of its size")
        if isinstance(task, TrainTask | EvaluateTask):
            self._check_time(task)
        self._cached.add(side)

    def _check_time(self, task: TrainTask | EvaluateTask) -> None:
        terms, passes = (sorted(task.weights), task.local_epochs) if isinstance(task, TrainTask) else ([], 1)
        kind = task.model_dump_json(include=_DECIDES_SPEED) + " ".join(terms)
        most = self._config.limits.max_hours_per_request
        for _ in range(2):  # what a first step costs once is no measure of the others
            if kind not in self._seconds:
                self._seconds[kind] = self._measure(task, self._config.device)
            hours = passes * self.frames * self._seconds[kind] / 3600
            if hours <= most:
                return
            del self._seconds[kind]
        message = f"would take about {hours:.3g} h; this site's limits.max_hours_per_request is {most:g}"
        raise RefusalError(Reason.TASK_TOO_LARGE, message)

    @cached_property
    def frames(self) -> int:
        """Of the manifest; none where it cannot be read, which opening the data says better."""
        try:
            return len(read_manifest(self._config.data))
        except DataError:
            return 0


def seconds_a_frame(task: TrainTask | EvaluateTask, device: str) -> float:
    """Seconds that one step on blank frames, or their evaluation, takes for each of them."""
    frames = min(task.batch_size, _MEASURED)
    blank = _blank(frames, task.model.image_size)
    with torch.random.fork_rng(devices=[]):
        model = Autoencoder(**task.model.model_dump()).to(find_device(device))
    began = time.perf_counter()
    if isinstance(task, TrainTask):
        train_round(model, blank, task.model_copy(update={"local_epochs": 1}), site="")
    else:
        score(model, blank, task.batch_size)
    return (time.perf_counter() - began) / frames


def _blank(frames: int, side: int) -> FrameSet:
    box = np.array([side // 4, side // 4, side // 2, side // 2])
    nothing = np.full((frames, 2), np.nan)
    return FrameSet(
        np.zeros((frames, side, side), np.uint8), np.tile(box, (frames, 1)), ("",) * frames, nothing, nothing
    )


def _check_memory(needed: float) -> None:
    """Against what is free, and what this process has already."""
    free = available_memory()
    if free is not None and needed > free + own_memory():
        message = f"would need about {size(needed)} of memory; {size(free + own_memory())} can be had on this machine"
        raise RefusalError(Reason.TASK_TOO_LARGE, message)


def check_disk(folder: Path, needed: float, what_for: str) -> None:
    """
    Raises:
        RefusalError: `too-large` where a disk would have less than LEFT_FREE left.
    """
    if needed > (free := free_disk(folder)) - LEFT_FREE:
        message = f"would need about {size(needed)} {what_for}; {size(free)} are free at {folder}, of which 1 GiB stays"
        raise RefusalError(Reason.TASK_TOO_LARGE, message)

"""A hospital's answers, from its local data. What is returned here is all that can leave."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from roiae.config import PrivacyConfig, Role
from roiae.contract import (
    GRADIENT,
    NUM_EXAMPLES,
    VALIDATION,
    Arrays,
    EvaluateTask,
    KeysTask,
    Reply,
    Request,
    ScoreTask,
    Task,
    TrainTask,
    check_arrays,
)
from roiae.data.site_data import SiteData
from roiae.errors import Reason, RefusalError
from roiae.hardware import find_device, prepare_process
from roiae.model import Autoencoder
from roiae.shift.queries import ShiftDesk
from roiae.training import arrays_of, evaluate, load_arrays, score, train_round

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Site:
    """One hospital: its name and role in the federation, its data, and what it lets others learn of them."""

    name: str
    role: Role
    data: SiteData
    privacy: PrivacyConfig
    state: Path  # its own folder, for what has to be remembered of its answers
    device: torch.device = CPU  # that trains and evaluates

    def answer(self, request: Request) -> Reply:
        """Do what is asked, or refuse.

        Raises:
            RefusalError: this site is held out and asked to contribute, the weights are not the model's, or a shift
                query asks for more than may be told.
        """
        task = request.task
        if self.role is Role.HELD_OUT and not isinstance(task, EvaluateTask | KeysTask | ScoreTask):
            raise RefusalError(Reason.HELD_OUT, f"{self.name} is held out: it is scored, and contributes nothing")
        began = time.perf_counter()
        prepare_process(task.threads)
        arrays: Arrays = {}
        match task:
            case TrainTask():
                model = self._model(task, request.arrays)
                metrics = self._train(model, task)
                arrays = arrays_of(model)
            case EvaluateTask():
                metrics = self._evaluate(self._model(task, request.arrays), task)
            case _:
                metrics, arrays = self._shift.answer(task, request.arrays)
        return Reply(metrics, arrays, seconds=time.perf_counter() - began)

    @cached_property
    def _shift(self) -> ShiftDesk:
        return ShiftDesk(self.name, self.role, self.data, self.privacy, self.state)

    def _train(self, model: Autoencoder, task: TrainTask) -> dict[str, float]:
        received = evaluate(model, self.data.validation, task.batch_size)
        training = train_round(model, self.data.train, task, site=self.name)
        return {
            NUM_EXAMPLES: float(len(self.data.train)),
            "frames_a_second": training.frames / training.seconds,
            **training.losses,
            **{f"{GRADIENT}{term}": magnitude for term, magnitude in training.magnitudes.items()},
            **{f"{VALIDATION}{name}": total for name, total in received.to_sums().items()},
        }

    def _evaluate(self, model: Autoencoder, task: EvaluateTask) -> dict[str, float]:
        """On the validation split of a source; a held-out site has trained on nothing, so all its frames count."""
        total = score(model, self.data.validation, task.batch_size)
        if self.role is Role.HELD_OUT:
            total += score(model, self.data.train, task.batch_size)
        return total.to_sums()

    def _model(self, task: Task, arrays: Arrays) -> Autoencoder:
        model = Autoencoder(**task.model.model_dump())
        check_arrays(arrays, arrays_of(model))
        load_arrays(model, arrays)
        return model.to(self.device)


@dataclass(frozen=True)
class SiteFolder:
    """Where a hospital's data lie and how they are read: all that is needed to open the site, in any process."""

    name: str
    role: Role
    folder: Path
    cache_dir: Path
    image_size: int
    validation_share: float
    max_bad_share: float
    privacy: PrivacyConfig
    state: Path
    device: str = "cpu"  # as it is set: auto, cpu, cuda or mps

    def open(self, on_frame: Callable[[int, int], None] | None = None) -> Site:
        """The site with its data, from the cache where that holds them.

        Args:
            on_frame: called with (frames read, frames in all) while they are decoded.

        Raises:
            ConfigError: this machine has no such device.
            DataError: the folder, its manifest or a frame cannot be used.
        """
        device = find_device(self.device)
        data = SiteData.open(
            self.folder,
            image_size=self.image_size,
            cache_dir=self.cache_dir,
            validation_share=self.validation_share,
            max_bad_share=self.max_bad_share,
            on_frame=on_frame,
        )
        return Site(self.name, self.role, data, self.privacy, self.state, device)

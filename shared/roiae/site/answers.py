"""A hospital's answers, from its local data. What is returned here is all that can leave."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from roiae.config import MinimumConfig, PrivacyConfig, Role
from roiae.data.site_data import SiteData
from roiae.errors import Reason, RefusalError
from roiae.method.hardware import find_device, prepare_process
from roiae.method.metrics import Evaluation, Quality
from roiae.method.model import Autoencoder
from roiae.method.rounding import SPEED_DIGITS, significant
from roiae.method.training import Training, arrays_of, evaluate, load_arrays, mean_ms_ssim, score, train_round
from roiae.shift.queries import ShiftResponder
from roiae.site.minimum import check_enough, is_enough, outgoing_nt
from roiae.wire.contract import (
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

CPU = torch.device("cpu")


class Guard:
    """Is shown what a site makes of the weights that came with a request; what it raises ends the request.

    This one lets everything through.
    """

    def received(self, quality: Quality) -> None:
        """How well they reconstruct the validation split, before anything else is done with them."""

    def trained(self, training: Training, ms_ssim: Callable[[], float]) -> None:
        """What a round of training on them did, before it leaves, and how well they then reconstruct that split."""


NO_GUARD = Guard()


def check_role(role: Role | None, task: Task) -> None:
    """
    Raises:
        RefusalError: `held-out` where such a site is asked to contribute.
    """
    if role is Role.HELD_OUT and not isinstance(task, EvaluateTask | KeysTask | ScoreTask):
        raise RefusalError(Reason.HELD_OUT, "this site is held out: it is scored, and contributes nothing")


@dataclass(frozen=True)
class Site:
    """One hospital: its name and role in the federation, its data, and what it lets others learn of them."""

    name: str
    role: Role
    data: SiteData
    privacy: PrivacyConfig
    state: Path  # its own folder, for what has to be remembered of its answers
    device: torch.device = CPU  # that trains and evaluates
    minimum: MinimumConfig = field(default_factory=MinimumConfig)  # behind every number that leaves

    def answer(self, request: Request, guard: Guard = NO_GUARD) -> Reply:
        """Do what is asked, or refuse.

        Args:
            guard: looks at the weights that came, and at what was trained on them.

        Raises:
            RefusalError: this site is held out and asked to contribute, too few frames or subjects stand behind an
                answer, the weights are not the model's, or a shift query asks for more than may be told.
        """
        task = request.task
        check_role(self.role, task)
        began = time.perf_counter()
        prepare_process(task.threads)
        arrays: Arrays = {}
        match task:
            case TrainTask():
                check_enough(self.data.train.subjects, self.minimum, "training")
                model = self._model(task, request.arrays)
                metrics = self._train(model, task, guard)
                arrays = arrays_of(model)
            case EvaluateTask():
                check_enough(self._evaluated, self.minimum, "evaluated")
                metrics = self._evaluate(self._model(task, request.arrays), task, guard)
            case _:
                metrics, arrays = self._shift.answer(task, request.arrays)
        return Reply(metrics, arrays, seconds=time.perf_counter() - began)

    @cached_property
    def _shift(self) -> ShiftResponder:
        return ShiftResponder(self.name, self.role, self.data, self.privacy, self.state)

    @property
    def _evaluated(self) -> tuple[str, ...]:
        """Subjects of the frames that an evaluation is of; a held-out site has trained on nothing, so all count."""
        trained_on = () if self.role is Role.SOURCE else self.data.train.subjects
        return (*self.data.validation.subjects, *trained_on)

    def _train(self, model: Autoencoder, task: TrainTask, guard: Guard) -> dict[str, float]:
        received = evaluate(model, self.data.validation, task.batch_size)
        guard.received(received)
        training = train_round(model, self.data.train, task, site=self.name)
        guard.trained(training, lambda: mean_ms_ssim(model, self.data.validation, task.batch_size))
        return {
            NUM_EXAMPLES: float(len(self.data.train)),
            "frames_a_second": significant(training.frames / training.seconds, SPEED_DIGITS),
            **{name: significant(loss) for name, loss in training.losses.items()},
            **{f"{GRADIENT}{term}": significant(magnitude) for term, magnitude in training.magnitudes.items()},
            **{f"{VALIDATION}{name}": total for name, total in self._outgoing(received).items()},
        }

    def _outgoing(self, received: Quality) -> dict[str, float]:
        """Rounded sums over the validation split; none where it is too small, which keeps no update from leaving."""
        if not is_enough(self.data.validation.subjects, self.minimum):
            return {}
        return received.rounded().to_sums()

    def _evaluate(self, model: Autoencoder, task: EvaluateTask, guard: Guard) -> dict[str, float]:
        """On the validation split of a source; on all frames of a held-out site."""
        quality, readings = score(model, self.data.validation, task.batch_size)
        guard.received(quality)
        if self.role is Role.HELD_OUT:
            of_train, more = score(model, self.data.train, task.batch_size)
            quality, readings = quality + of_train, readings + more
        nt = outgoing_nt(readings, self.minimum)
        return Evaluation(quality.rounded(), nt.rounded()).to_sums()

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
    minimum: MinimumConfig = field(default_factory=MinimumConfig)

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
        return Site(self.name, self.role, data, self.privacy, self.state, device, self.minimum)

"""What a site remembers of the weights of each run: a few of them, and how well they did. It never leaves."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import load_file, save

from roiae.errors import DataError
from roiae.files import write_atomically
from roiae.wire.contract import Arrays

MAX_ANCHORS = 4  # of a run: the newest of each branch, and where branches may begin
MAX_RUNS = 3  # whose arrays are kept; what is known of their quality is kept of all
MAX_WAITING, WAITING_EVERY = 3, 5  # of weights that were refused, and rounds between them
_COURSE = "course.json"


@dataclass(frozen=True)
class Anchor:
    """Weights that later ones may follow."""

    weights: str  # digest
    round: int
    learning_rate: float
    ms_ssim: float  # the best on the validation frames, of these and those that they follow
    fork: bool = False  # stays when it is followed: another branch may begin here


@dataclass(frozen=True)
class Course:
    """Of one run."""

    recipe: dict[str, Any] = field(default_factory=dict)  # empty before the first training
    anchors: tuple[Anchor, ...] = ()  # the oldest first
    origins: tuple[str, ...] = ()  # digests of the allowed start models that the run has followed
    waiting: tuple[Anchor, ...] = ()  # refused, until this hospital's IT vouches for them; the oldest first
    passed: tuple[Anchor, ...] = ()  # all weights that were trained on, without arrays; the oldest first

    def was(self, weights: str) -> Anchor | None:
        """What was known of weights when they were last trained on: to begin with them anew forgets nothing."""
        return next((anchor for anchor in reversed(self.passed) if anchor.weights == weights), None)

    def refused(self, weights: Anchor) -> "Course":
        """With refused weights, unless others of nearly the same round wait already."""
        if any(0 <= weights.round - other.round < WAITING_EVERY for other in self.waiting):
            return self
        return replace(self, waiting=(*self.waiting, weights)[-MAX_WAITING:])

    def gone_on(self, after: Anchor, before: Anchor | None, recipe: dict[str, Any]) -> "Course":
        """With new weights behind those that they follow.

        Where the learning rate rises, a phase begins: its first weights stay as a fork, for its control begins there
        too.
        """
        kept = [anchor for anchor in self.anchors if anchor.fork or anchor != before]
        rises = before is None or after.learning_rate > before.learning_rate
        if rises and not any(anchor.fork and anchor.weights == after.weights for anchor in kept):
            kept.append(replace(after, fork=True))
        passed = (*(anchor for anchor in self.passed if anchor.weights != after.weights), after)
        return Course(self.recipe or recipe, (*kept, after)[-MAX_ANCHORS:], self.origins, passed=passed)

    def begun_at(self, weights: str) -> "Course":
        """With an allowed start model as one more beginning."""
        others = tuple(other for other in self.origins if other != weights)
        return replace(self, origins=(*others, weights)[-MAX_ANCHORS:])


class WeightsState:
    """A folder for each run: `course.json`, and of the latest the anchors' arrays.

    A coordinator can begin other runs: what a run was held to must not be forgotten by that. How many there can be is
    bounded by limits.max_runs, and a course by limits.max_requests.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, run: str) -> Course:
        """
        Raises:
            DataError: it is there and cannot be read.
        """
        path = self._of(run) / _COURSE
        try:
            return TypeAdapter(Course).validate_json(path.read_bytes()) if path.exists() else Course()
        except ValidationError as error:
            raise DataError(
                f"{path}: is damaged, so it is not known which weights may follow. Restore it from a backup, or remove "
                f"{path.parent} and go on as docs/HOSPITAL.md says of a lost state."
            ) from error

    def arrays(self, run: str, course: Course) -> Iterator[tuple[Anchor, Arrays]]:
        """All weights whose arrays are there, each with them: the newest anchor first, those that wait last."""
        loaded: dict[str, Arrays] = {}
        for anchor in (*reversed(course.anchors), *reversed(course.waiting)):
            path = self._of(run) / f"{anchor.weights}.safetensors"
            if anchor.weights not in loaded and path.exists():
                loaded[anchor.weights] = load_file(path)
            if anchor.weights in loaded:
                yield anchor, loaded[anchor.weights]

    def origins(self, run: str, course: Course) -> Iterator[Arrays]:
        """Arrays of the start models that the run has followed, where they are there."""
        for weights in course.origins:
            path = self._of(run) / f"{weights}.safetensors"
            if path.exists():
                yield load_file(path)

    def write(self, run: str, course: Course, weights: str, arrays: Arrays) -> None:
        """Arrays first: a course never names some that were not there when it was written."""
        folder = self._of(run)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{weights}.safetensors"
        if not path.exists():
            write_atomically(path, save(arrays))
        write_atomically(folder / _COURSE, TypeAdapter(Course).dump_json(course, indent=1) + b"\n")
        kept = {anchor.weights for anchor in (*course.anchors, *course.waiting)} | set(course.origins)
        for old in folder.glob("*.safetensors"):
            if old.stem not in kept:
                old.unlink()
        runs = sorted(self._folder.glob(f"*/{_COURSE}"), key=lambda one: one.stat().st_mtime_ns)
        for course_of_old in runs[:-MAX_RUNS]:
            for old in course_of_old.parent.glob("*.safetensors"):
                old.unlink()

    def _of(self, run: str) -> Path:
        return self._folder / hashlib.sha256(run.encode()).hexdigest()[:16]

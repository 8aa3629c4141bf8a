"""Which weights follow from what this site has seen of a run; others are refused before they are trained on.

The first that a site trains on lie within a round of the run's own initialisation. Later ones follow if it has
trained on them in the run, or site.yaml names them, or they lie as near to earlier ones as clipped updates can have
moved them; and then only if they reconstruct the site's own validation frames about as well as the best before them.
docs/HOSPITAL.md says what to do where honest weights are refused: after a restore, or a long absence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roiae.errors import Reason, RefusalError
from roiae.method.metrics import Quality
from roiae.method.training import QUIET, Training, initial_arrays
from roiae.site.answers import Guard
from roiae.wire.contract import Arrays, EvaluateTask, TrainTask, check_arrays
from roiae_client.folder.site_config import Limits
from roiae_client.recipe.capacity import check_disk
from roiae_client.recipe.spending import Spent
from roiae_client.recipe.weights_state import Anchor, Course, WeightsState

# Honest rounds on two hospitals of real frames (82 and 66 steps a round, learning rate 0.001): the mean moved by at
# most 6.7 in a round, one hospital's update by 9.1, and 14.9 over ten rounds, where √10 rounds of 5.4 are 17. One
# weight moved by at most 0.038 in a round and 0.097 over ten. limits.max_update_norm is 20 as shipped.
MAX_MISSED = 10  # rounds, for which the bound grows as their square root
ONE_WEIGHT = 0.01  # of the bound of all weights together: 0.2 a round as shipped
ROUNDING = 1.01  # a mean of updates that were all clipped, in float32 or float16, may lie a little beyond the bound
# There, the received weights fell at most 0.026 behind the best before them, phase 2's first rounds among them; on two
# phantom hospitals of 52 training frames 0.08, in rounds of phase 2 that cost 3.3 dB of PSNR: nothing there trains it.
WORSE_MS_SSIM = 0.15
STEADY = 20  # frames; over fewer, a mean swings more, by the square root of how many fewer
# The two hospitals' mean frames have MS-SSIM 0.31 with their frames, three phantom hospitals' 0.35 to 0.38; honest
# weights had passed the real ones after two passes, and had 0.50 and 0.48 after ten, 500 steps over all frames of the
# manifest. Sixteen frames in batches of eight have made 24 steps in twelve passes, and have learned nothing yet.
SIGHTED_STEPS, SIGHTED_PASSES = 500, 40  # after either, weights have to do better than one picture for all frames
# Of a step's gradient, 0.004 at most on real frames and 0.07 on noise; 0.29 and more in weights made by hand.
MAX_QUIET = 0.1
LARGEST_INITIAL = 1.0  # number of any initialisation: the scale of a norm


@dataclass(frozen=True)
class Received:
    """Weights as they came with a request, and what the run has done so far."""

    run: str
    task: TrainTask | EvaluateTask
    arrays: Arrays
    weights: str  # digest of the arrays
    spent: Spent  # from the ledger
    frames: int  # in the site's manifest
    blind: Callable[[], float]  # the MS-SSIM that one picture for all frames reaches at this site

    @property
    def learned(self) -> bool:
        """Whether the run has trained here so long that its weights have to see what is in a frame."""
        passes = self.spent.passes
        steps = passes * math.ceil(self.frames / self.task.batch_size)
        return steps >= SIGHTED_STEPS or passes >= SIGHTED_PASSES

    @property
    def trained(self) -> TrainTask | None:
        """The task, where they are to be trained on."""
        return self.task if isinstance(self.task, TrainTask) else None


class WeightsHistory:
    """Of one site.

    Args:
        folder: in the hospital's state.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._state, self._limits = folder, WeightsState(folder), limits

    def admit(self, received: Received) -> Guard:
        """Whether weights follow from what was seen; who looks at them from then on.

        Raises:
            RefusalError: `weights-off-course`, also of the guard; `not-allowed` for another model or recipe than the
                run began with; `arrays-mismatch` or `not-finite`; `too-large` where the disk cannot keep them.
            DataError: the state is damaged.
        """
        if received.trained:
            check_disk(self._folder, sum(array.nbytes for array in received.arrays.values()), "to keep its weights")
        course = self._state.read(received.run)
        _check_recipe(received.task, course)
        before = self._followed(received, course)
        if received.weights in self._limits.start_models:
            course = course.begun_at(received.weights)
        return _Watch(self._state, received, course, before)

    def check_size(self, arrays: Arrays, weights: str) -> None:
        """At a site without a history: that no number lies where no run can have led it, whatever its seed.

        Numbers beyond all measure overflow for one frame alone, and an answer then speaks of that frame.

        Raises:
            RefusalError: `weights-off-course`.
        """
        bound = LARGEST_INITIAL + self._limits.max_weight_change
        largest = max((float(np.abs(array).max(initial=0)) for array in arrays.values()), default=0.0)
        if weights not in self._limits.start_models and not largest <= bound:
            said = (
                f"have a number of {largest:.4g}; a run begins below {LARGEST_INITIAL:g}, and limits.max_weight_change"
            )
            raise _off_course(weights, f"{said} is {self._limits.max_weight_change:g}", ())

    def _followed(self, received: Received, course: Course) -> Anchor | None:
        """The weights that these follow; None where they begin a branch of the run, for the first time."""
        weights, spent = received.weights, received.spent
        same = [anchor for anchor in course.anchors if anchor.weights == weights]
        if same:
            return same[-1]
        if weights in spent.weights or weights in self._limits.start_models:
            return course.was(weights)
        if received.trained and not spent.weights and self._begins(received.arrays, received.trained):
            return None
        nearest = self._nearest(received, course)
        if isinstance(nearest, Anchor):
            self._check_change(received, course)
            return nearest
        raise _off_course(weights, nearest, self._waiting(received, course))

    def _begins(self, arrays: Arrays, task: TrainTask) -> bool:
        """Whether they lie within a round of the run's own initialisation.

        So a site that missed the first rounds still takes part, and one whose CPU draws other last bits does; to begin
        there costs a coordinator one round more.
        """
        own = initial_arrays(task.model, task.seed)
        check_arrays(arrays, own)
        return _beyond(arrays, own, self._limits.max_update_norm, rounds=1)[0] <= 1

    def _nearest(self, received: Received, course: Course) -> Anchor | str:
        """The weights that these lie nearest to, measured by the bound; what is wrong where that is too far."""
        none = "lie farther than a round from the run's own initialisation, and this site has trained on none of it"
        if not received.trained and not course.recipe:
            return none
        found = []
        for anchor, there in self._state.arrays(received.run, course):
            if anchor in course.waiting and anchor.weights not in self._limits.start_models:
                continue
            check_arrays(received.arrays, there)
            rounds = _rounds_since(anchor, received)
            found.append((*_beyond(received.arrays, there, self._limits.max_update_norm, rounds), anchor))
        if not found:
            return none
        beyond, said, nearest = min(found, key=lambda one: one[0])
        return nearest if beyond <= 1 else said

    def _check_change(self, received: Received, course: Course) -> None:
        """No weight may have gone far from where the run began, however many rounds it took."""
        seed = received.task.seed if isinstance(received.task, TrainTask) else int(course.recipe["seed"])
        origins = [initial_arrays(received.task.model, seed), *self._state.origins(received.run, course)]
        most, bound = min(_largest(received.arrays, origin) for origin in origins), self._limits.max_weight_change
        if not most <= bound:
            said = f"have a number {most:.4g} from where the run began; limits.max_weight_change is {bound:g}"
            raise _off_course(received.weights, said, ())

    def _waiting(self, received: Received, course: Course) -> tuple[Anchor, ...]:
        """Refused weights are kept, a few of them: honest ones can be vouched for when the run has gone on."""
        if task := received.trained:
            check_arrays(received.arrays, initial_arrays(task.model, task.seed))
            waits = Anchor(received.weights, task.round, task.learning_rate, ms_ssim=0.0)
            course = course.refused(waits)
            if waits in course.waiting:
                self._state.write(received.run, course, received.weights, received.arrays)
        return course.waiting


class _Watch(Guard):
    """Over one request's weights.

    Args:
        before: the weights that they follow.
    """

    def __init__(self, state: WeightsState, received: Received, course: Course, before: Anchor | None) -> None:
        self._state, self._received, self._course, self._before = state, received, course, before

    def received(self, quality: Quality) -> None:
        if self._before and self._before.weights != self._received.weights:
            _check_quality(self._received, quality, self._before)
        self._ms_ssim = quality.means()["ms_ssim"]

    def trained(self, training: Training, ms_ssim: Callable[[], float]) -> None:
        """What follows has to be about as good as what this site has made of the weights by itself.

        The mean of one site that has begun to see and one that has not yet had 0.03 less than the first. Only while the
        best before says little: it takes a third of a second.
        """
        received, task = self._received, self._received.trained
        if training.quiet > MAX_QUIET:
            said = f"leave {training.quiet:.1%} of a step's gradient below {QUIET:g}, where honest ones leave"
            raise _off_course(received.weights, f"{said} {MAX_QUIET:.0%} at most", ())
        if task:
            own = 0.0 if received.learned else ms_ssim()
            after = _anchor(task, received.weights, max(self._ms_ssim, own), self._before)
            course = self._course.gone_on(after, self._before, _recipe(task))
            self._state.write(received.run, course, received.weights, received.arrays)


def _rounds_since(anchor: Anchor, received: Received) -> int:
    """For which the bound grows. Not before the weights have to see: a claimed absence would lead there at once."""
    if not received.learned:
        return 1
    passed = received.trained.round - anchor.round if received.trained else 1 + MAX_MISSED
    return min(max(passed, 1), 1 + MAX_MISSED)


def _beyond(arrays: Arrays, there: Arrays, of_a_round: float, rounds: int) -> tuple[float, str]:
    """How far the weights lie from others as a share of what is allowed, and the same in words."""
    bound = of_a_round * math.sqrt(rounds) * ROUNDING
    moved = {name: array.astype(np.float64) - there[name] for name, array in arrays.items()}
    norm = math.sqrt(sum(float(np.square(array).sum()) for array in moved.values()))
    name, most = max(((name, float(np.abs(array).max())) for name, array in moved.items()), key=lambda one: one[1])
    of_one = ONE_WEIGHT * bound
    said = f"lie {{}} from the nearest that this site has seen, where {rounds} rounds of clipped updates allow {{}}"
    if most / of_one > norm / bound:
        return most / of_one, f"{said.format(f'{most:.4g}', f'{of_one:.4g}')}, in one weight of {name}"
    return norm / bound, said.format(f"{norm:.4g}", f"{bound:.4g}")


def _largest(arrays: Arrays, origin: Arrays) -> float:
    return max(float(np.abs(array - origin[name]).max()) for name, array in arrays.items())


def _check_quality(received: Received, quality: Quality, best: Anchor) -> None:
    weights, now = received.weights, quality.means()["ms_ssim"]
    worse = WORSE_MS_SSIM * max(1.0, math.sqrt(STEADY / quality.frames))
    if not now >= best.ms_ssim - worse:
        said = f"reconstruct this site's validation frames with MS-SSIM {now:.4g}, where the best before them had"
        raise _off_course(weights, f"{said} {best.ms_ssim:.4g} and {worse:.4g} less is allowed", ())
    if received.learned and not now > (blind := received.blind()):
        said = f"reconstruct this site's validation frames with MS-SSIM {now:.4g} after"
        message = f"{said} {received.spent.passes} passes, where one picture for all of them has {blind:.4g}"
        raise _off_course(weights, message, ())


def _anchor(task: TrainTask, weights: str, ms_ssim: float, before: Anchor | None) -> Anchor:
    return Anchor(weights, task.round, task.learning_rate, max(ms_ssim, before.ms_ssim if before else 0.0))


def _recipe(task: TrainTask) -> dict[str, object]:
    """What no request of a run may change; the schedule and the loss terms do change, by phase."""
    fixed = {"model", "seed", "batch_size", "optimizer", "weight_decay", "clip_norm", "augment"}
    return task.model_dump(mode="json", include=fixed)


def _check_recipe(task: TrainTask | EvaluateTask, course: Course) -> None:
    asked = _recipe(task) if isinstance(task, TrainTask) else {"model": task.model.model_dump(mode="json")}
    for name, value in asked.items():
        if course.recipe and value != course.recipe[name]:
            message = f"this run began with {name} {course.recipe[name]} and now asks for {value}"
            raise RefusalError(Reason.NOT_ALLOWED, message)


def _off_course(weights: str, how: str, waiting: Sequence[Anchor]) -> RefusalError:
    message = f"the weights {weights} {how}. "
    if waiting:
        named = " or ".join(f"{anchor.weights} in round {anchor.round}" for anchor in waiting)
        message += (
            "If this site was away, restored or set up anew, call another hospital of the federation, never the "
            f"coordinator. If its `roiae-client ledger` has {named}, add that digest to limits.start_models in "
            "site.yaml and start again. "
        )
    return RefusalError(Reason.OFF_COURSE, message + "docs/HOSPITAL.md says more.")

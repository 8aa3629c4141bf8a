"""What this site allows, whatever a coordinator asks: every bound is in its own `site.yaml`."""

import math
from collections.abc import Iterator
from typing import cast

import numpy as np

from roiae.errors import Reason, RefusalError
from roiae.method.calibration import WEIGHT_RANGE
from roiae.wire.contract import TASKS, Arrays, Task, TrainTask
from roiae_client.folder.site_config import Limits, RequestKind
from roiae_client.recipe.spending import Spent

# As no honest run asks for; beyond these, all but one batch's share of an update would be lost beside something known.
MAX_WEIGHT_DECAY = 1.0
MAX_PROXIMAL_MU = 1.0


def check_task(task: Task, limits: Limits, spent: Spent) -> None:
    """
    Args:
        spent: what the run has been answered, from the ledger.

    Raises:
        RefusalError: `not-allowed` for a request or a setting of it that this site does not allow, `budget-spent` for
            one more than the run may make.
    """
    kind = kind_of(task)
    if kind not in limits.requests:
        raise _not_allowed(f"a {kind} request", f"limits.requests is {sorted(limits.requests)}")
    if isinstance(task, TrainTask):
        for asked, bound in _beyond(task, limits):
            raise _not_allowed(asked, bound)
    _check_budget(kind, task, limits, spent)


def kind_of(task: Task) -> RequestKind:
    return cast(RequestKind, next(kind for kind, of in TASKS.items() if type(task) is of))


def _beyond(task: TrainTask, limits: Limits) -> Iterator[tuple[str, str]]:
    """What a training asks for beyond this site's recipe, and what the recipe says of it."""
    if task.optimizer not in limits.optimizers:
        yield f"the optimiser {task.optimizer}", f"limits.optimizers is {sorted(limits.optimizers)}"
    if task.learning_rate > limits.max_learning_rate:
        yield f"a learning rate of {task.learning_rate:g}", f"limits.max_learning_rate is {limits.max_learning_rate:g}"
    if task.batch_size < limits.min_batch_size:
        yield f"batches of {task.batch_size}", f"limits.min_batch_size is {limits.min_batch_size}"
    if (math.inf if task.clip_norm is None else task.clip_norm) > limits.max_clip_norm:
        yield f"gradients clipped at {task.clip_norm}", f"limits.max_clip_norm is {limits.max_clip_norm:g}"
    if limits.require_augmentation and not task.augment:
        yield "training without augmentation", "limits.require_augmentation is true"
    if task.local_epochs > limits.max_local_epochs:
        yield f"{task.local_epochs} local epochs", f"limits.max_local_epochs is {limits.max_local_epochs}"
    least, most = WEIGHT_RANGE
    if not all(least <= weight <= most for weight in task.weights.values()) or max(task.weights.values()) < 1:
        yield f"loss weights {task.weights}", f"each lies between {least:g} and {most:g}, and one of them is 1 or more"
    if task.weight_decay > MAX_WEIGHT_DECAY:
        yield f"a weight decay of {task.weight_decay:g}", f"at most {MAX_WEIGHT_DECAY:g} is allowed"
    if task.proximal_mu > MAX_PROXIMAL_MU:
        yield f"a proximal weight of {task.proximal_mu:g}", f"at most {MAX_PROXIMAL_MU:g} is allowed"


def _check_budget(kind: RequestKind, task: Task, limits: Limits, spent: Spent) -> None:
    if spent.runs_besides >= limits.max_runs:
        raise _spent(f"{spent.runs_besides} other runs have been answered", f"max_runs is {limits.max_runs}")
    if spent.requests[kind] >= limits.max_requests.of(kind):
        name = kind.removeprefix("query.")
        said = f"max_requests.{name} is {limits.max_requests.of(kind)}"
        raise _spent(f"{spent.requests[kind]} {kind} requests of this run have been answered", said)
    if isinstance(task, TrainTask) and spent.passes + task.local_epochs > limits.max_passes:
        asked = f"{task.local_epochs} passes more than the {spent.passes} of this run so far"
        raise _spent(asked, f"max_passes is {limits.max_passes}")


def clip_update(sent: Arrays, trained: Arrays, max_norm: float) -> tuple[Arrays, float]:
    """Arrays whose update, the difference to what was sent, is no longer than the bound over all arrays together.

    Returns:
        The arrays, the very ones that were trained where their update is short enough, and its L2 norm before.

    Raises:
        RefusalError: `not-finite` where training ended in NaN or infinity.
    """
    update = {name: array.astype(np.float64) - sent[name] for name, array in trained.items()}
    norm = math.sqrt(sum(float(np.square(difference).sum()) for difference in update.values()))
    if not math.isfinite(norm):
        raise RefusalError(Reason.NOT_FINITE, "the weights after training hold NaN or infinity")
    if norm <= max_norm:
        return trained, norm
    scale = max_norm / norm
    clipped = {name: (sent[name] + scale * update[name]).astype(array.dtype) for name, array in trained.items()}
    return clipped, norm


def _not_allowed(asked: str, bound: str) -> RefusalError:
    return RefusalError(Reason.NOT_ALLOWED, f"asked for {asked}; at this site {bound}")


def _spent(what: str, bound: str) -> RefusalError:
    return RefusalError(Reason.BUDGET_SPENT, f"{what}; this site's limits.{bound}")

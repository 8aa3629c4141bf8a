"""What a message can weigh, worked out from the request alone: known before a byte of it is fetched."""

from roiae.config import ModelConfig
from roiae.errors import Reason, RefusalError
from roiae.method.forecast import weights_bytes
from roiae.shift.group import KEY_BYTES, sealed_bytes
from roiae.shift.knn import MIN_PROTOTYPE_SUBJECTS
from roiae.shift.newton import STRENGTHS
from roiae.shift.probe import BINS, FOLDS
from roiae.wire.contract import (
    SHIFT_ARMS,
    Arrays,
    EvaluateTask,
    KeysTask,
    ProbeTask,
    Request,
    ScoreTask,
    StatisticsTask,
    Task,
    TrainTask,
)

MAX_SUBJECTS = 100_000  # of one site, behind the prototypes that it sends
MAX_SCORED = 100_000  # frames that one site scores
MAX_SITES = 128  # in one group: the masked sums of more would overflow

PACKING = 65_536  # what names, shapes and the cutting into chunks add, at most; all that there is of no arrays
_NUMBER, _MASKED = 8, 16  # bytes


def reply_bytes(request: Request) -> int:
    """Most bytes of arrays, packed, in an honest reply to this request.

    Raises:
        RefusalError: `bad-request`: no honest request is like it.
    """
    match request.task:
        case TrainTask() as task:
            return PACKING + _numbers(request.arrays) * (4 if task.upload == "float32" else 2)
        case EvaluateTask():
            return PACKING
        case KeysTask():
            return PACKING + KEY_BYTES
        case StatisticsTask() as task:
            return _statistics(task)
        case ProbeTask() as task:
            return _probe(task)
        case ScoreTask() as task:
            return PACKING + len(task.arms) * _NUMBER * (2 * MAX_SCORED + 2 * BINS + 8)


def largest_reply(model: ModelConfig, sites: int) -> int:
    """Most bytes of arrays, packed, in an honest reply to any request of a run with this model and so many sites."""
    sources = tuple(str(number) for number in range(max(2, sites)))
    group = {"model": model, "batch_size": 1, "threads": 1, "arms": SHIFT_ARMS, "sources": sources, "keys": {}}
    tasks = StatisticsTask(**group), ProbeTask(**group, step=1), ScoreTask(**group, k=1, step=None)  # type: ignore[arg-type]
    return max(PACKING + weights_bytes(model), *(reply_bytes(Request(task, {})) for task in tasks))


def request_bytes(task: Task | None) -> int:
    """Most bytes of arrays, packed, that this task can come with; None is the handshake, which has none.

    Raises:
        RefusalError: `bad-request`: more sources or keys than a group can have.
    """
    if task is None or isinstance(task, KeysTask):
        return PACKING
    if isinstance(task, TrainTask | EvaluateTask):
        return PACKING + weights_bytes(task.model)
    encoders = PACKING + len(task.arms) * weights_bytes(task.model)
    match task:
        case StatisticsTask():
            return encoders
        case ProbeTask():
            return encoders + _members(task) * max(_statistics(task), _probe(task))
        case ScoreTask():
            return encoders + _members(task) * _statistics(task) + _probe(task)


def _statistics(task: StatisticsTask | ProbeTask | ScoreTask) -> int:
    dim, prototypes = task.model.latent_dim, MAX_SUBJECTS // MIN_PROTOTYPE_SUBJECTS
    told = _NUMBER * (1 + dim + prototypes * (dim + 1)) + 2 * _MASKED * dim * dim
    return sealed_bytes(_members(task), PACKING + len(task.arms) * told) + PACKING


def _probe(task: StatisticsTask | ProbeTask | ScoreTask) -> int:
    dim, sources, fits = task.model.latent_dim, len(task.sources), len(STRENGTHS) * (FOLDS + 1)
    weights = (1 if sources == 2 else sources) * (dim + 1)
    sums = fits * (weights + sources * (sources - 1) // 2 + 3)
    told = _NUMBER * (fits * weights + weights + 2 * dim) + _MASKED * sums
    return sealed_bytes(_members(task), PACKING + len(task.arms) * told) + PACKING


def _members(task: StatisticsTask | ProbeTask | ScoreTask) -> int:
    members = max(len(task.keys), len(task.sources))
    if members > MAX_SITES:
        raise RefusalError(Reason.BAD_REQUEST, f"{members} hospitals in one group, of at most {MAX_SITES}")
    return members


def _numbers(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())

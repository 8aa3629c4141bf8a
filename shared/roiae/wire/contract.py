"""What a coordinator may ask of a site, and what a site answers: the whole contract, without a transport.

A request is a task (settings, checked strictly on arrival) and the weights it is about. A reply is arrays and numbers.
There is no field that could carry an image, a latent, a name or a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from roiae.config import LOSS_TERMS, ModelConfig, Precision, Upload
from roiae.errors import Reason, RefusalError
from roiae.text import problems

Arrays = dict[str, NDArray[Any]]  # a model's weights by name, float32; the names and order of its state dict
SiteName = Annotated[str, Field(min_length=1, max_length=128)]
PublicKey = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="X25519")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

NUM_EXAMPLES = "num-examples"  # Flower's own key for the weight of a reply: its training frames
MAX_STEPS = 26  # of the provenance probe: with keys, statistics, the result and scores 30 exchanges
VALIDATION = "validation_"  # before the quality sums of the weights that a site received
GRADIENT = "gradient_"  # before the magnitude of a term's gradient


def _known_term(name: str) -> str:
    if name not in LOSS_TERMS:
        raise ValueError(f"one of {', '.join(LOSS_TERMS)}")
    return name


TermName = Annotated[str, AfterValidator(_known_term)]


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: ModelConfig
    batch_size: int = Field(ge=1, le=4096)
    threads: int = Field(ge=1, le=256)


class TrainTask(_Task):
    """Evaluate the weights on the validation split, then train on them for some epochs."""

    weights: dict[TermName, Positive] = Field(min_length=1, description="a phase is this table")
    learning_rate: Positive
    local_epochs: int = Field(ge=1, le=100)
    optimizer: Literal["adamw", "sgd"]
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    clip_norm: Positive | None
    proximal_mu: float = Field(ge=0, allow_inf_nan=False)
    augment: bool
    precision: Precision
    seed: int = Field(ge=0, lt=2**31)
    upload: Upload = Field("float32", description="type in which the update travels back")
    measure: bool = Field(False, description="also tell the magnitude of each term's gradient over the round")
    round: int = Field(ge=1, lt=2**31, description="counted from the run's start; phase 2 and its control count alike")


class EvaluateTask(_Task):
    """Reconstruction quality, and what is kept of the NT, on the validation split; on all frames of a held-out site."""


ShiftArm = Literal["phase1", "phase2"]  # whose encoders are compared
SHIFT_ARMS: tuple[ShiftArm, ...] = get_args(ShiftArm)


class KeysTask(_Task):
    """Take part in a scoring: a public key, made for it, and the number of training frames, or of frames to score."""


class _ShiftTask(_Task):
    """About the latents of frozen encoders, whose arrays come as `<arm>/<name in the model's state>`."""

    arms: tuple[ShiftArm, ...] = Field(min_length=1)


class _GroupTask(_ShiftTask):
    """Comes with what hospitals have sealed for each other, which the coordinator carries."""

    sources: tuple[SiteName, ...] = Field(min_length=2, description="whose sums are added, and none without the others")
    keys: dict[SiteName, PublicKey] = Field(description="of these and of the held-out site")


class StatisticsTask(_GroupTask):
    """Moments and prototypes of the training split's latents."""


class ProbeTask(_GroupTask):
    """One step of the provenance probe, from the statistics (`statistics/<site>`) or the last step (`probe/<site>`)."""

    step: int = Field(ge=1, le=1 + MAX_STEPS, description="the last one tells the result")


class ScoreTask(_GroupTask):
    """Score the validation split, or all frames of a held-out site, with what `statistics/<site>` and `probe` say."""

    k: int = Field(ge=1)
    step: int | None = Field(description="of the probe, that `probe/<first source>` tells the result of")


ShiftTask = KeysTask | StatisticsTask | ProbeTask | ScoreTask
Task = TrainTask | EvaluateTask | ShiftTask

# The name under which each task crosses the wire: Flower routes by it.
TASKS: Mapping[str, type[Task]] = {
    "train": TrainTask,
    "evaluate": EvaluateTask,
    "query.keys": KeysTask,
    "query.statistics": StatisticsTask,
    "query.probe": ProbeTask,
    "query.scores": ScoreTask,
}


@dataclass(frozen=True)
class Request:
    task: Task
    arrays: Arrays

    @property
    def kind(self) -> str:
        return next(kind for kind, task in TASKS.items() if type(self.task) is task)


@dataclass(frozen=True)
class Reply:
    metrics: dict[str, float]
    arrays: Arrays
    seconds: float  # the site's own work


def parse_task(kind: str, text: str) -> Task:
    """The task that arrived as JSON.

    Raises:
        RefusalError: settings that do not fit the kind of request.
    """
    try:
        return TASKS[kind].model_validate_json(text)
    except ValidationError as error:
        raise RefusalError(
            Reason.BAD_REQUEST, f"a {kind} request does not fit the contract: {problems(error)}"
        ) from None


def check_arrays(arrays: Arrays, expected: Arrays) -> None:
    """Refuse arrays that are not exactly the expected names, shapes and types, or not finite.

    Raises:
        RefusalError: `arrays-mismatch` or `not-finite`.
    """
    layout = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if layout != {name: (array.shape, array.dtype) for name, array in expected.items()}:
        raise RefusalError(Reason.ARRAYS_MISMATCH, "names, shapes or types of the arrays are not the model's")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise RefusalError(Reason.NOT_FINITE, "an array holds NaN or infinity")

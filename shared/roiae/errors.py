"""Everything that can go wrong, as one tree.

RoiaeError
├── FatalError              trying again changes nothing: the input has to change
│   ├── ConfigError         3   a setting is unknown, ill-typed or impossible
│   ├── DataError           4   a hospital's data cannot be used
│   │   ├── ManifestError       … manifest.csv says something impossible
│   │   └── FrameError          … an image cannot be read, or its ROI does not fit it
│   ├── RunFolderError      5   the run folder is taken, foreign, of another configuration, or unwritable
│   ├── CalibrationError    6   the gradient magnitudes give no usable loss weights
│   ├── EngineError         7   the chosen engine is not installed or does not start
│   ├── RefusalError        8   a site refuses a request, or the coordinator a reply
│   ├── SetupError          9   a folder, key, kit, certificate or exported model cannot be used
│   ├── LedgerError         11  the ledger is not what was written: a line is missing or altered
│   └── DoctorError         13  the doctor found what would stop this machine
└── RetryableError          the same command may succeed later
    ├── QuorumError         10  too few hospitals contributed; `--resume` goes on from the last completed step
    └── ServiceError        12  a service runs already, does not run, does not start, or cannot be reached

The number is the exit code of the command that ends with the error; 1 is a defect of ours, 2 is the command line's own.
A message says what happened, where, what was expected and what to do. It stays on the machine that raised it: what
travels between hospital and coordinator is a `Reason`, never a text.
"""

from enum import StrEnum
from typing import ClassVar


class RoiaeError(Exception):
    """Base of all errors that a person can act on; printed as one message without a traceback."""

    exit_code: ClassVar[int] = 1


class FatalError(RoiaeError):
    """Trying again changes nothing."""


class RetryableError(RoiaeError):
    """The same command may succeed later."""


class ConfigError(FatalError):
    exit_code = 3


class DataError(FatalError):
    exit_code = 4


class ManifestError(DataError):
    """`manifest.csv` says something impossible."""


class Fault(StrEnum):
    """Why a frame cannot be used: the codes of these findings in docs/DATA.md."""

    UNREADABLE = "unreadable"
    BIT_DEPTH = "bit-depth"
    NO_DECODER = "no-decoder"
    ORIENTATION = "orientation"
    ROI_OUTSIDE = "roi-outside"
    ROI_SWAPPED = "roi-swapped"
    ROI_DEGENERATE = "roi-degenerate"


class FrameError(DataError):
    """An image cannot be read, or its ROI does not fit it."""

    def __init__(self, message: str, fault: Fault = Fault.UNREADABLE) -> None:
        super().__init__(message)
        self.fault = fault


class RunFolderError(FatalError):
    exit_code = 5


class CalibrationError(FatalError):
    exit_code = 6


class EngineError(FatalError):
    exit_code = 7


class Reason(StrEnum):
    """Why a reply is missing or refused: the whole vocabulary that crosses the wire or enters `rounds.jsonl`."""

    HELD_OUT = "held-out-site"
    NOT_ASKED = "not-asked"
    BAD_REQUEST = "bad-request"
    SITE_FAILED = "site-failed"
    NO_REPLY = "no-reply"
    OFFLINE = "offline"
    NOT_ALLOWED = "not-allowed"
    BAD_SIGNATURE = "bad-signature"
    EXPIRED = "expired"
    WRONG_VERSION = "wrong-version"
    ARRAYS_MISMATCH = "arrays-mismatch"
    NOT_FINITE = "not-finite"
    TOO_LARGE = "update-too-large"
    NO_FRAMES = "no-frames"
    MANY_FRAMES = "too-many-frames"
    FEW_SUBJECTS = "few-subjects"
    ALREADY_ANSWERED = "already-answered"
    BAD_METRICS = "bad-metrics"
    WITHDRAWN = "withdrawn"
    OFF_COURSE = "weights-off-course"
    BUDGET_SPENT = "budget-spent"
    TASK_TOO_LARGE = "too-large"


class RefusalError(FatalError):
    """A site refuses a request, or the coordinator a reply; `reason` is all that travels."""

    exit_code = 8

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SetupError(FatalError):
    exit_code = 9


class LedgerError(FatalError):
    exit_code = 11


class DoctorError(FatalError):
    exit_code = 13


class QuorumError(RetryableError):
    """Too few hospitals contributed.

    Args:
        refused: so many have refused what they would refuse again that asking is of no use before a person has acted.
    """

    exit_code = 10

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class ServiceError(RetryableError):
    exit_code = 12

"""What each run has been answered so far: the ledger's lines, counted. A lost state folder gives no fresh budget."""

from collections import Counter
from dataclasses import dataclass, field, replace

from roiae.errors import Reason
from roiae.wire.contract import TASKS

# Refusals that may have been held against the frames before, and so tell of them: weights can be made that end in NaN,
# or in an error, for one frame alone, and a shift query is refused by what the latents are.
_COUNTED = (
    "",
    Reason.OFF_COURSE,
    Reason.NOT_FINITE,
    Reason.SITE_FAILED,
    Reason.ALREADY_ANSWERED,
    Reason.BAD_REQUEST,
)


@dataclass(frozen=True)
class Asked:
    """What a line of the ledger says of its request besides the kind, as far as the request was read."""

    weights: str = ""  # digest of those that came with it
    round: int = 0
    passes: int = 0  # over the training split that the answer stands on


NOTHING_READ = Asked()


@dataclass
class Spent:
    """What one run has been answered, and the weights that this site has trained on for it."""

    requests: Counter[str] = field(default_factory=Counter)  # by kind
    passes: int = 0
    weights: set[str] = field(default_factory=set)  # digests
    runs_besides: int = 0  # other runs that have been answered


class Spending:
    """By run."""

    def __init__(self) -> None:
        self._runs: dict[str, Spent] = {}

    def note(self, run: str, kind: str, reason: str, asked: Asked) -> None:
        """
        Args:
            run: empty for a request that nobody vouched for, which is not counted.
        """
        if not run or kind not in TASKS or reason not in _COUNTED:
            return
        spent = self._runs.setdefault(run, Spent())
        spent.requests[kind] += 1
        if kind == "train" and not reason:
            spent.passes += asked.passes
            spent.weights.add(asked.weights)

    def of(self, run: str) -> Spent:
        others = sum(other != run for other in self._runs)
        return replace(self._runs.get(run, Spent()), runs_besides=others)

"""What has left this hospital: a line for every reply, on the disk before the reply goes, and never changed after.

Each line is JSON and carries the hash of the line before it, so that an altered, missing or moved line shows. A cut
tail shows by the head that the coordinator has acknowledged, which every request brings back: the last one that this
ledger had is kept beside it, and one that it never had is written into it. docs/LEDGER.md.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from roiae.errors import LedgerError, ServiceError, SetupError
from roiae.files import write_json
from roiae.wire.envelope import NO_LINES
from roiae_client.recipe.spending import NOTHING_READ, Asked, Spending

LEDGER = "ledger.jsonl"  # in the hospital's folder
UNFINISHED = "unfinished"  # kind of the line that sets aside one which a crash cut short
REQUEST_KEY = "request-key"  # kind of the line that says which key signs requests from now on
_HASH = b',"hash":"'  # a line's hash is that of the bytes before this
_END = b'"}\n'
_NUMBER_BYTES = 8  # a metric is a double


class Head(NamedTuple):
    """Where a ledger ends: the number of its lines and the hash of the last."""

    lines: int
    hash: str

    @property
    def unknown(self) -> str:
        """For a person, where the coordinator has named this head and the ledger never had it."""
        return (
            f"the coordinator says that it has seen line {self.lines} with hash {self.hash}, which is not here: the "
            "end of the ledger was cut or replaced, or the coordinator is mistaken; docs/LEDGER.md says what to do"
        )


class KeySeen(NamedTuple):
    """A request key that the CA has certified."""

    number: int
    fingerprint: str


@dataclass(frozen=True)
class Line:
    """What left with one reply."""

    n: int
    time: str  # UTC
    run: str
    request: str
    kind: str
    reason: str  # empty with an answer
    arrays: list[dict[str, Any]]  # name, shape, dtype, norm (L2)
    metrics: list[str]
    bytes: int  # of arrays and metrics, as they are in memory
    weights: str  # digest of the weights that came with the request; empty where none did, or none were looked at
    round: int  # of the run, as the request counts; 0 where it counts none
    passes: int  # over the training split that stand behind the update
    previous: str
    hash: str
    set_aside: str = ""  # of an unfinished line: what of it was there
    request_key: KeySeen | None = None  # of a line of this kind
    claimed: Head | None = None  # a head that the coordinator says it has seen, and that is not here
    turned_away: int = 0  # requests since the line before that got no line: nobody vouched for them


class LedgerReader:
    """Follows a ledger line by line; `head`, `end` and `unfinished` say where it has come to.

    `claimed` is the head that the coordinator says it has seen and that is not here, if no request was answered since.
    A last line without its end is left out: it is being written, or a crash cut it short and its reply never went.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.acknowledged = read_acknowledged(path)  # first, so that a line written meanwhile cannot be missing
        self.head = Head(0, NO_LINES)
        self.end = 0  # byte after the last whole line
        self.unfinished = b""
        self.claimed: Head | None = None

    def __iter__(self) -> Iterator[Line]:
        """
        Raises:
            LedgerError: a line is altered, missing or out of order, or the acknowledged one is not there.
            SetupError: the file cannot be read.
        """
        met = self.acknowledged == self.head
        try:
            with self._path.open("rb") as file:
                for raw in file:
                    if not raw.endswith(b"\n"):
                        self.unfinished = raw
                        break
                    line = _checked(raw, self.head, self._path)
                    self.head, self.end = Head(line.n, line.hash), self.end + len(raw)
                    met = met or self.acknowledged == self.head
                    self._note_claim(line)
                    yield line
        except FileNotFoundError:
            pass  # nothing has left; the acknowledged head knows better where that is not so
        except OSError as error:
            raise SetupError(f"{self._path}: cannot be read ({error.strerror}). Check its owner and mode.") from error
        if not met:
            raise _not_acknowledged(self._path, self.acknowledged, self.head)

    def _note_claim(self, line: Line) -> None:
        if line.claimed:
            self.claimed = line.claimed
        elif line.request and not line.reason:
            self.claimed = None


class Ledger:
    """The open ledger of a hospital, for one process at a time.

    Args:
        path: the file, made with its folder where there is none.

    Raises:
        ServiceError: another process has it open.
        LedgerError: it is not what was written.
        SetupError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
        self._requests: set[str] = set()
        self.spending = Spending()
        self._hashes = [NO_LINES]  # by number of lines
        self.request_key: KeySeen | None = None  # the latest; None while it is still the kit's
        try:
            self._lock.acquire()
            self._open()
        except Timeout:
            message = f"{path}: another process writes to it. `roiae-client start` runs already; stop that one first."
            raise ServiceError(message) from None
        except OSError as error:
            self._lock.release()
            raise SetupError(
                f"{path}: cannot be written ({error.strerror}). Check the disk, owner and mode."
            ) from error
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        reader = LedgerReader(self._path)
        for line in reader:
            self._note(line.request, line.hash)
            if line.request_key:
                self.request_key = line.request_key
            if not line.claimed:
                self.spending.note(line.run, line.kind, line.reason, Asked(line.weights, line.round, line.passes))
        self._end, self._acknowledged = reader.end, reader.acknowledged
        self._file = _open(self._path)
        if reader.unfinished:
            self._append(kind=UNFINISHED, set_aside=reader.unfinished.decode("ascii", "backslashreplace"))

    def close(self) -> None:
        os.close(self._file)
        self._lock.release()

    @property
    def head(self) -> Head:
        return Head(len(self._hashes) - 1, self._hashes[-1])

    def answered(self, request: str) -> bool:
        """Whether a reply to this request has been written down."""
        return request in self._requests

    @property
    def folder(self) -> Path:
        """The hospital's, in which the ledger lies."""
        return self._path.parent

    def acknowledge(self, seen: Head) -> bool:
        """Keep the head that the coordinator has seen, if this ledger had it; a later one is never given up for it.

        Returns:
            Whether this ledger had it.
        """
        if not self._has(seen):
            return False
        if seen.lines > self._acknowledged.lines:
            write_json(_beside(self._path), seen)
            self._acknowledged = seen
        return True

    def accept_request_key(self, key: KeySeen) -> None:
        """Write down the key that signs requests from now on; it is on the disk when this returns.

        Raises:
            LedgerError, OSError: as `append`.
        """
        self._append(kind=REQUEST_KEY, request_key=key)
        self.request_key = key

    def append(
        self,
        *,
        run: str,
        request: str,
        kind: str,
        reason: str,
        arrays: Mapping[str, NDArray[Any]],
        metrics: Collection[str],
        claimed: Head | None = None,
        turned_away: int = 0,
        asked: Asked = NOTHING_READ,
    ) -> Head:
        """Write down what is about to leave; it is on the disk when this returns.

        Args:
            arrays: of the reply, finite.
            metrics: names of the reply's numbers.
            claimed, turned_away: as a `Line` has them.
            asked: what the request said, as far as it was read.

        Raises:
            LedgerError: the file was moved or cut.
            OSError: the disk is full or fails. Nothing may leave then.
        """
        head = self._append(
            run=run,
            request=request,
            kind=kind,
            reason=reason,
            arrays=[_described(name, array) for name, array in arrays.items()],
            metrics=list(metrics),
            bytes=sum(array.nbytes for array in arrays.values()) + _NUMBER_BYTES * len(metrics),
            **({"claimed": claimed} if claimed else {}),
            **({"turned_away": turned_away} if turned_away else {}),
            **asdict(asked),
        )
        if not claimed:  # with a head that is not ours nothing was looked at
            self.spending.note(run, kind, reason, asked)
        return head

    def _append(self, **said: Any) -> Head:
        nothing = {"run": "", "request": "", "kind": "", "reason": "", "arrays": [], "metrics": [], "bytes": 0}
        nothing |= asdict(NOTHING_READ)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"n": self.head.lines + 1, "time": now, **nothing, **said, "previous": self.head.hash}
        body = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()[:-1]
        digest = hashlib.sha256(body).hexdigest()
        self._write(body + _HASH + digest.encode() + _END)
        self._note(str(line["request"]), digest)
        return self.head

    def _write(self, raw: bytes) -> None:
        here, there = os.fstat(self._file), self._path.stat() if self._path.exists() else None
        if there is None or not os.path.samestat(here, there) or here.st_size < self._end:
            raise LedgerError(f"{self._path}: was moved or cut while in use. Put it back as it was; nothing leaves.")
        os.ftruncate(self._file, self._end)  # a line whose writing failed; its reply never went
        written = 0
        while written < len(raw):
            written += os.pwrite(self._file, raw[written:], self._end + written)
        os.fsync(self._file)
        self._end += len(raw)

    def _note(self, request: str, digest: str) -> None:
        self._requests.add(request)
        self._hashes.append(digest)

    def _has(self, head: Head) -> bool:
        return head.lines < len(self._hashes) and self._hashes[head.lines] == head.hash


def read_acknowledged(path: Path) -> Head:
    """The head of this ledger that the coordinator has seen, as kept beside it.

    Raises:
        LedgerError: the file is damaged.
    """
    beside = _beside(path)
    if not beside.exists():
        return Head(0, NO_LINES)
    try:
        return TypeAdapter(Head).validate_json(beside.read_bytes())
    except ValidationError as error:
        raise LedgerError(
            f"{beside}: is damaged, so a cut tail would not show. Restore it from a backup, or remove it once the "
            "ledger's head is what the coordinator has."
        ) from error


def _not_acknowledged(path: Path, acknowledged: Head, head: Head) -> LedgerError:
    """The error for a ledger that has no longer the line which the coordinator has seen."""
    found = "another line is there" if acknowledged.lines <= head.lines else f"it ends with line {head.lines}"
    return LedgerError(
        f"{path}: line {acknowledged.lines}: the coordinator has seen this line with hash {acknowledged.hash}, and "
        f"{found}. The end of the ledger was cut or replaced on this machine. Nothing more is answered; keep the file, "
        "and compare with what the coordinator has. docs/LEDGER.md says how to go on."
    )


def _checked(raw: bytes, before: Head, path: Path) -> Line:
    place = before.lines + 1
    body, _, tail = raw.rpartition(_HASH)
    if tail != hashlib.sha256(body).hexdigest().encode() + _END:
        raise LedgerError(f"{path}: line {place}: was altered: its hash is not that of its text.")
    try:
        fields = json.loads(raw)
        for name, kind in (("request_key", KeySeen), ("claimed", Head)):
            if name in fields:
                fields[name] = kind(*fields[name])
        line = Line(**fields)
    except (ValueError, TypeError):
        raise LedgerError(f"{path}: line {place}: is no line of a ledger.") from None
    if line.n != place:
        raise LedgerError(f"{path}: line {place}: says that it is line {line.n}: a line is missing or out of order.")
    if line.previous != before.hash:
        raise LedgerError(f"{path}: line {place}: does not follow the line before it, one of the two was replaced.")
    return line


def _described(name: str, array: NDArray[Any]) -> dict[str, Any]:
    norm = float(np.linalg.norm(array.astype(np.float64).ravel()))
    return {"name": name, "shape": list(array.shape), "dtype": str(array.dtype), "norm": float(f"{norm:.6g}")}


def _beside(path: Path) -> Path:
    return path.with_suffix(".acknowledged.json")


def _open(path: Path) -> int:
    """The file, open to be written, and its name in the folder on the disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return file

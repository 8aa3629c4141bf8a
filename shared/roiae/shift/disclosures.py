"""What a site has answered about each encoder, kept on its own disk, so that questions do not add up to an oracle.

The entry is written before the answer leaves. The same question again, as a resumed run asks it, gets the same answer
and counts once. A scoring counts as asked even where its content is then refused: a refusal is an answer too.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from roiae.errors import DataError, Reason, RefusalError
from roiae.files import write_atomically

_FILE = "answered.json"


@dataclass
class Statistics:
    """One answer to `query.statistics`."""

    fingerprint: str  # of the data
    subjects: list[str]  # hashed, of the training split


@dataclass
class Answered:
    """About one encoder."""

    statistics: list[Statistics] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)  # with whom this site's sums were added
    scoring: str = ""  # digest of the one question answered


@dataclass
class Splits:
    """Of the data that were answered over: subjects, hashed."""

    fingerprint: str
    subjects: dict[str, list[str]]  # by split


@dataclass
class Disclosures:
    """By the digest of the encoder, or of the whole weights."""

    salt: str = field(default_factory=lambda: secrets.token_hex(16))  # of this site alone
    encoders: dict[str, Answered] = field(default_factory=dict)
    splits: list[Splits] = field(default_factory=list)
    weights: dict[str, list[int]] = field(default_factory=dict)  # over which of the splits each was answered

    def note_statistics(self, encoder: str, fingerprint: str, subjects: Sequence[str], least: int) -> None:
        """
        Raises:
            RefusalError: `already-answered` where the data are others than before, by fewer than `least` subjects: the
                difference of the two answers would speak of those alone.
        """
        hashed = self._hashed(subjects)
        known = self._of(encoder).statistics
        if any(before.fingerprint == fingerprint for before in known):
            return
        for before in known:
            changed = len(set(before.subjects) ^ set(hashed))
            if changed < least:
                raise _refusal(f"{changed} training subjects changed since this encoder's statistics were answered")
        known.append(Statistics(fingerprint, hashed))

    def note_answer(self, weights: str, fingerprint: str, subjects: Mapping[str, Sequence[str]], least: int) -> None:
        """An answer to `train` or `evaluate` about these weights.

        Args:
            subjects: of each split.

        Raises:
            RefusalError: as `note_statistics`, where in one of the splits fewer than `least` subjects changed.
        """
        answered = self.weights.setdefault(weights, [])
        if any(self.splits[place].fingerprint == fingerprint for place in answered):
            return
        place = self._place(Splits(fingerprint, {name: self._hashed(of) for name, of in subjects.items()}))
        now = self.splits[place]
        for before in (self.splits[other] for other in answered):
            changed = min(len(set(of) ^ set(now.subjects.get(name, ()))) for name, of in before.subjects.items())
            if changed < least:
                raise _refusal(f"{changed} subjects changed in a split since an answer about the same weights")
        answered.append(place)

    def _place(self, of: Splits) -> int:
        if of not in self.splits:
            self.splits.append(of)
        return self.splits.index(of)

    def _hashed(self, subjects: Sequence[str]) -> list[str]:
        return sorted({hashlib.sha256(f"{self.salt}/{subject}".encode()).hexdigest() for subject in subjects})

    def note_sources(self, encoder: str, sources: Sequence[str]) -> None:
        """
        Raises:
            RefusalError: `already-answered` where this site's sums were added to those of others than these: the
                difference of the two would be the sums of one hospital.
        """
        known = self._of(encoder)
        if known.sources not in ([], list(sources)):
            raise _refusal("this encoder's sums were added up with those of other hospitals")
        known.sources = list(sources)

    def note_scoring(self, encoder: str, question: str) -> None:
        """
        Raises:
            RefusalError: `already-answered` where another question has been.
        """
        known = self._of(encoder)
        if known.scoring not in ("", question):
            raise _refusal("this encoder has been scored with another question, or over other data")
        known.scoring = question

    def _of(self, encoder: str) -> Answered:
        return self.encoders.setdefault(encoder, Answered())


@contextmanager
def open_disclosures(folder: Path) -> Iterator[Disclosures]:
    """The register in a site's own folder, held while it is changed; a refusal leaves it as it was.

    Raises:
        DataError: it is there and cannot be read; without it nothing may be answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, adapter = folder / _FILE, TypeAdapter(Disclosures)
    with FileLock(folder / ".lock"):
        try:
            register = adapter.validate_json(path.read_bytes()) if path.exists() else Disclosures()
        except ValidationError as error:
            raise DataError(
                f"{path}: is damaged, so what this site has answered is not known. Restore it from a backup."
            ) from error
        yield register
        write_atomically(path, adapter.dump_json(register, indent=2) + b"\n")


def _refusal(message: str) -> RefusalError:
    return RefusalError(Reason.ALREADY_ANSWERED, message)

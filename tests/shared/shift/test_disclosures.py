"""Questions that would add up, asked by a coordinator who wants the difference."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.errors import DataError, Reason, RefusalError
from roiae.shift.disclosures import Disclosures, open_disclosures

SUBJECTS = [f"S{index}" for index in range(60)]


def refused(question: Callable[[], object]) -> None:
    with pytest.raises(RefusalError) as refusal:
        question()
    assert refusal.value.reason is Reason.ALREADY_ANSWERED


@pytest.fixture
def register() -> Disclosures:
    """Has answered the statistics of encoder `e` over data `f`."""
    register = Disclosures()
    register.note_statistics("e", "f", SUBJECTS, 50)
    return register


def test_statistics_of_nearly_the_same_data_would_differ_by_a_latent_and_are_refused(register: Disclosures) -> None:
    register.note_statistics("e", "f", SUBJECTS, 50)  # the same question again
    refused(lambda: register.note_statistics("e", "g", SUBJECTS[1:], 50))
    refused(lambda: register.note_statistics("e", "g", SUBJECTS, 50))  # the same subjects, other frames
    refused(lambda: register.note_statistics("e", "g", [*SUBJECTS, *(f"T{index}" for index in range(49))], 50))
    register.note_statistics("e", "g", [*SUBJECTS, *(f"T{index}" for index in range(50))], 50)
    refused(lambda: register.note_statistics("e", "h", SUBJECTS[:-1], 50))  # far from the last, near the first


def test_another_encoder_is_another_question(register: Disclosures) -> None:
    register.note_statistics("e2", "g", SUBJECTS[1:], 50)


def test_one_scoring_a_checkpoint(register: Disclosures) -> None:
    register.note_scoring("e", "q")
    register.note_scoring("e", "q")
    register.note_scoring("e2", "q2")

    refused(lambda: register.note_scoring("e", "q2"))


def test_sums_are_added_with_those_of_one_set_of_hospitals(register: Disclosures) -> None:
    """The difference of two such sums would be one hospital's own."""
    register.note_sources("e", ("a", "b"))
    register.note_sources("e", ("a", "b"))
    register.note_sources("e2", ("a", "b", "c"))

    refused(lambda: register.note_sources("e", ("a", "b", "c")))
    refused(lambda: register.note_sources("e", ("a", "c")))


def test_it_is_kept_on_disk_without_a_subjects_name_and_a_refusal_leaves_it_as_it_was(tmp_path: Path) -> None:
    with open_disclosures(tmp_path / "site") as register:
        register.note_statistics("e", "f", SUBJECTS, 50)
    before = (tmp_path / "site" / "answered.json").read_text()

    with pytest.raises(RefusalError), open_disclosures(tmp_path / "site") as register:
        register.note_statistics("e", "g", SUBJECTS[1:], 50)

    assert (tmp_path / "site" / "answered.json").read_text() == before
    assert not any(f'"{subject}"' in before for subject in SUBJECTS)
    assert json.loads(before)["encoders"]["e"]["statistics"][0]["fingerprint"] == "f"


def test_two_sites_hash_the_same_subjects_differently() -> None:
    hashed = []
    for register in (Disclosures(), Disclosures()):
        register.note_statistics("e", "f", SUBJECTS, 50)
        hashed.append(set(register.encoders["e"].statistics[0].subjects))

    assert not hashed[0] & hashed[1]


def test_a_damaged_register_answers_nothing(tmp_path: Path) -> None:
    (tmp_path / "answered.json").write_text("{")

    with pytest.raises(DataError, match="is damaged"), open_disclosures(tmp_path):
        pass

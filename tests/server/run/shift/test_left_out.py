"""Hospitals that cannot, will not or do not answer as they should: an outcome with its reason, and the run goes on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae.config import PrivacyConfig
from roiae.errors import Reason
from roiae.site.answers import Site
from roiae.wire.contract import KeysTask, ProbeTask, Request
from roiae_server.run.transport import Outcome
from tests.server.run.shift.conftest import HELD_OUT, Sites


def test_too_few_subjects_are_a_reason_and_the_run_is_done(
    sites: list[Site], score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    strict = [replace(site, privacy=PrivacyConfig(min_subjects=50, min_scored_frames=5)) for site in sites]

    found = score(Sites(strict))

    assert found["left_out"] == {"alpha": "few-subjects"}
    assert all(
        found["phase1"][s]["not_computed"] == "fewer-than-two-sources" for s in ("mahalanobis", "knn", "provenance")
    )
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "done"


def test_a_held_out_site_with_too_few_frames_is_a_reason(
    sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    few = [*sites[:2], replace(sites[2], privacy=PrivacyConfig(min_subjects=30, min_scored_frames=21))]

    found = score(Sites(few))

    assert found["left_out"] == {HELD_OUT: "no-frames"}
    for name in ("mahalanobis", "knn", "provenance"):
        assert found["phase2"][name]["not_computed"] == "no-frames"


def test_a_source_that_drops_out_during_the_probe_leaves_no_probe_and_the_other_scores(
    make_site: Callable[..., Site], sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    """A second sum over the others would differ from the first by one hospital's."""
    third = replace(make_site("gamma", 45, 8), privacy=sites[0].privacy)
    found = score(Sites([*sites, third], lambda site, task: site == "gamma" and isinstance(task, ProbeTask)))

    assert found["left_out"] == {"gamma": "no-reply"}
    assert found["phase1"]["provenance"]["not_computed"] == "source-dropped-out"
    assert set(found["phase1"]["scores"]["mahalanobis"]) == {"alpha", "beta", "gamma", HELD_OUT}
    assert found["phase2"]["mahalanobis"]["source_frames"] == 29


def test_a_source_that_drops_out_before_the_statistics_leaves_no_score(
    sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    found = score(Sites(sites, lambda site, task: site == "beta" and not isinstance(task, KeysTask)))

    assert found["left_out"] == {"beta": "no-reply"}
    assert all(found["phase2"][s]["not_computed"] == "source-dropped-out" for s in ("mahalanobis", "knn", "provenance"))


def test_a_source_without_a_key_is_left_out_and_the_others_score(
    make_site: Callable[..., Site], sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    third = replace(make_site("gamma", 45, 8), privacy=sites[0].privacy)
    found = score(Sites([*sites, third], lambda site, task: site == "gamma"))

    assert found["left_out"] == {"gamma": "no-reply"}
    assert found["sources"] == ["alpha", "beta"]
    assert all("not_computed" not in found["phase1"][s] for s in ("mahalanobis", "knn", "provenance"))


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("key", lambda a: a[1:], Reason.ARRAYS_MISMATCH),
        ("statistics", lambda a: a.astype(np.float64), Reason.ARRAYS_MISMATCH),
        ("probe", lambda a: a[None], Reason.ARRAYS_MISMATCH),
        ("phase1/choice.log_loss", lambda a: a * np.nan, Reason.NOT_FINITE),
        ("phase1/choice.log_loss", lambda a: np.zeros((99, 2)), Reason.ARRAYS_MISMATCH),
        ("phase1/scores.knn", lambda a: a[:-1], Reason.ARRAYS_MISMATCH),
        ("phase1/scores.mahalanobis", lambda a: a[:0], Reason.ARRAYS_MISMATCH),
        ("phase1/reading.entropy_histogram", lambda a: a + 1, Reason.BAD_METRICS),
        ("phase1/latents", lambda a: np.zeros((3, 8)), Reason.ARRAYS_MISMATCH),
    ],
)
def test_a_bad_answer_is_refused_by_name_and_the_run_goes_on(
    sites: list[Site], score: Callable[..., dict[str, Any]], name: str, damage: Callable[..., Any], reason: Reason
) -> None:
    class Damaged(Sites):
        def _outcome(self, site: str, request: Request) -> Outcome:
            outcome = super()._outcome(site, request)
            if site != "beta" or outcome.reply is None or name not in {*outcome.reply.arrays, "phase1/latents"}:
                return outcome
            arrays = outcome.reply.arrays | {name: damage(outcome.reply.arrays.get(name))}
            return replace(outcome, reply=replace(outcome.reply, arrays=arrays))

    found = score(Damaged(sites))

    assert found["left_out"] == {"beta": reason}


def test_a_sealed_message_that_was_altered_on_its_way_leaves_no_score(
    sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    class Altered(Sites):
        def _outcome(self, site: str, request: Request) -> Outcome:
            outcome = super()._outcome(site, request)
            if site == "beta" and outcome.reply and "statistics" in outcome.reply.arrays:
                outcome.reply.arrays["statistics"] = outcome.reply.arrays["statistics"][::-1].copy()
            return outcome

    found = score(Altered(sites))

    assert found["left_out"] == {"alpha": "bad-request", "beta": "bad-request", HELD_OUT: "bad-request"}
    assert found["phase1"]["mahalanobis"]["not_computed"] == "no-frames"


def test_constant_latents_are_a_reason(sites: list[Site], score: Callable[..., dict[str, Any]]) -> None:
    flat = [
        replace(
            site, data=replace(site.data, train=replace(site.data.train, frames=np.zeros_like(site.data.train.frames)))
        )
        for site in sites
    ]

    found = score(Sites(flat))

    assert found["phase1"]["mahalanobis"]["not_computed"] == "constant-latents"

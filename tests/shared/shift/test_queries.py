"""A site's responder, asked by a coordinator who is not honest."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from roiae.config import PrivacyConfig, Role, ShiftConfig
from roiae.data.site_data import FrameSet, SiteData
from roiae.errors import Reason, RefusalError
from roiae.shift.checks import MIN_SCORED_FRAMES, MIN_SUBJECTS
from roiae.shift.knn import DEFAULT_K
from roiae.shift.latents import encoder_arrays
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, KeysTask, ProbeTask, Reply, Request, ScoreTask, StatisticsTask, Task
from tests.conftest import MODEL

COMMON: dict[str, Any] = {"model": MODEL, "batch_size": 16, "threads": 1}
SOURCES = ("alpha", "beta")


@dataclass
class Coordinator:
    """Asks sites about one encoder, honestly unless told otherwise."""

    sites: dict[str, Site]
    encoder: Arrays
    sources: tuple[str, ...] = SOURCES
    keys: dict[str, str] = field(default_factory=dict)

    def ask(self, site: str, task: Task, carried: Arrays | None = None) -> Reply:
        return self.sites[site].answer(Request(task, self.encoder | (carried or {})))

    def ask_keys(self) -> None:
        replies = {name: self.ask(name, KeysTask(**COMMON)) for name in self.sites}
        self.keys = {name: reply.arrays["key"].tobytes().hex() for name, reply in replies.items()}

    def statistics_task(self) -> StatisticsTask:
        return StatisticsTask(**self.asked)

    def statistics(self) -> Arrays:
        """What the sources have sealed."""
        if not self.keys:
            self.ask_keys()
        task = self.statistics_task()
        return {f"statistics/{name}": self.ask(name, task).arrays["statistics"] for name in self.sources}

    def probe_task(self, step: int) -> ProbeTask:
        return ProbeTask(**self.asked, step=step)

    def step(self, step: int, carried: Arrays) -> dict[str, Reply]:
        return {name: self.ask(name, self.probe_task(step), carried) for name in self.sources}

    def score_task(self, **changed: Any) -> ScoreTask:
        return ScoreTask(**{**self.asked, "k": 20, "step": None, **changed})

    @property
    def asked(self) -> dict[str, Any]:
        return {**COMMON, "arms": ("phase1",), "sources": self.sources, "keys": self.keys}


@pytest.fixture
def sites(make_site: Callable[..., Site]) -> dict[str, Site]:
    made = [make_site("alpha", 52, 20), make_site("beta", 60, 24), make_site("held", 11, 10, Role.HELD_OUT)]
    return {site.name: site for site in made}


@pytest.fixture
def coordinator(sites: dict[str, Site], initial: Arrays) -> Coordinator:
    return Coordinator(sites, {f"phase1/{name}": array for name, array in encoder_arrays(initial).items()})


def refused(question: Callable[[], object]) -> Reason:
    with pytest.raises(RefusalError) as refusal:
        question()
    return refusal.value.reason


def test_the_configured_defaults_are_those_that_were_reasoned_about() -> None:
    assert PrivacyConfig() == PrivacyConfig(min_subjects=MIN_SUBJECTS, min_scored_frames=MIN_SCORED_FRAMES)
    assert ShiftConfig().k == DEFAULT_K


def test_scores_leave_sorted_and_rounded_and_name_no_frame(coordinator: Coordinator) -> None:
    carried = coordinator.statistics()

    reply = coordinator.ask("held", coordinator.score_task(), carried)

    assert set(reply.arrays) == {"phase1/scores.mahalanobis", "phase1/scores.knn", "phase1/shrinkage"}
    for name in ("mahalanobis", "knn"):
        scores = reply.arrays[f"phase1/scores.{name}"]
        assert scores.shape == (21,)
        assert (np.diff(scores) >= 0).all()
        assert all(float(f"{score:.3g}") == pytest.approx(score, rel=1e-12) for score in scores)


def test_a_coordinator_can_send_no_mean_precision_or_weights_of_its_own(coordinator: Coordinator) -> None:
    """What a site scores with comes sealed by the sources; an altered, a foreign or an older message does not open."""
    carried = coordinator.statistics()
    coordinator.step(1, carried)
    for site in ("alpha", "held"):
        for name in carried:
            altered = carried[name].copy()
            altered[-1] ^= 1
            changed = carried | {name: altered}
            assert refused(partial(coordinator.ask, site, coordinator.score_task(), changed)) is Reason.BAD_REQUEST
    assert refused(partial(coordinator.step, 2, {f"probe/{s}": carried[f"statistics/{s}"] for s in SOURCES}))
    coordinator.ask_keys()
    assert refused(partial(coordinator.ask, "held", coordinator.score_task(), carried)) is Reason.BAD_REQUEST


def test_another_scoring_of_a_checkpoint_is_refused(coordinator: Coordinator) -> None:
    carried = coordinator.statistics()
    coordinator.ask("held", coordinator.score_task(), carried)
    coordinator.ask("held", coordinator.score_task(), carried)

    other = partial(coordinator.ask, "held", coordinator.score_task(k=25), carried)

    assert refused(other) is Reason.ALREADY_ANSWERED


def test_sums_with_other_hospitals_would_differ_by_one_hospitals_and_are_refused(
    coordinator: Coordinator, make_site: Callable[..., Site]
) -> None:
    coordinator.sites["gamma"] = make_site("gamma", 55, 20)
    coordinator.statistics()
    more = replace(coordinator, sources=("alpha", "beta", "gamma"))

    assert refused(lambda: more.ask("alpha", more.statistics_task())) is Reason.ALREADY_ANSWERED
    assert refused(lambda: more.ask("alpha", more.probe_task(1))) is Reason.ALREADY_ANSWERED


@pytest.mark.parametrize("change", ["one", "stranger", "not ours", "unsorted", "the same"])
def test_a_set_of_hospitals_that_is_none_is_refused(coordinator: Coordinator, change: str) -> None:
    coordinator.ask_keys()
    ours, foreign = coordinator.keys["alpha"], X25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    if change == "one":
        coordinator.sources = ("alpha", "alpha")
    elif change == "stranger":
        coordinator.sources = ("alpha", "stranger")
    elif change == "not ours":
        coordinator.keys["alpha"] = foreign
    elif change == "unsorted":
        coordinator.sources = ("beta", "alpha")
    else:
        coordinator.keys["beta"] = ours

    assert refused(lambda: coordinator.ask("alpha", coordinator.statistics_task())) is Reason.BAD_REQUEST


def test_statistics_before_a_key_are_refused(coordinator: Coordinator) -> None:
    coordinator.keys = {name: f"{place:064x}" for place, name in enumerate(("alpha", "beta", "held"), start=9)}

    assert refused(lambda: coordinator.ask("alpha", coordinator.statistics_task())) is Reason.BAD_REQUEST


def test_a_step_that_does_not_follow_is_refused(coordinator: Coordinator) -> None:
    carried = coordinator.statistics()
    first = coordinator.step(1, carried)
    probe = {f"probe/{name}": reply.arrays["probe"] for name, reply in first.items()}

    assert refused(partial(coordinator.step, 3, probe)) is Reason.BAD_REQUEST
    assert coordinator.step(2, probe)["alpha"].metrics["done"] == 0


def test_a_lost_reply_is_given_again_and_the_fit_goes_on(coordinator: Coordinator) -> None:
    """The site advances once a step, however often it is asked."""
    carried = coordinator.statistics()
    coordinator.step(1, carried)
    probe = {f"probe/{name}": reply.arrays["probe"] for name, reply in coordinator.step(1, carried).items()}
    coordinator.step(2, probe)
    again = {f"probe/{name}": reply.arrays["probe"] for name, reply in coordinator.step(2, probe).items()}

    assert coordinator.step(3, again)["beta"].metrics == {"num-examples": 60.0, "done": 0.0}


def test_a_source_alone_missing_from_a_sum_leaves_none(coordinator: Coordinator) -> None:
    carried = coordinator.statistics()
    del carried["statistics/beta"]

    assert refused(lambda: coordinator.step(1, carried)) is Reason.ARRAYS_MISMATCH


def test_statistics_that_differ_by_one_subject_are_refused(
    coordinator: Coordinator, frame_set: Callable[[int, int], FrameSet]
) -> None:
    """The difference of Σz would be that subject's latent."""
    site = coordinator.sites["beta"]
    coordinator.statistics()
    fewer = SiteData(site.data.train[1:], site.data.validation, (), fingerprint="one fewer")
    coordinator.sites["beta"] = replace(site, data=fewer)

    assert refused(coordinator.statistics) is Reason.BAD_REQUEST  # its key is that of other data
    coordinator.ask_keys()
    assert refused(coordinator.statistics) is Reason.ALREADY_ANSWERED
    others = SiteData(frame_set(60, 999), site.data.validation, (), fingerprint="others")
    coordinator.sites["beta"] = replace(site, data=others)
    coordinator.ask_keys()
    assert set(coordinator.statistics()) == {"statistics/alpha", "statistics/beta"}


def test_who_could_not_answer_to_the_end_does_not_take_part(coordinator: Coordinator) -> None:
    small = replace(coordinator.sites["alpha"], privacy=PrivacyConfig(min_subjects=53))
    few = replace(coordinator.sites["held"], privacy=PrivacyConfig(min_scored_frames=22))
    coordinator.sites |= {"alpha": small, "held": few}

    assert refused(lambda: coordinator.ask("alpha", KeysTask(**COMMON))) is Reason.FEW_SUBJECTS
    assert refused(lambda: coordinator.ask("held", KeysTask(**COMMON))) is Reason.NO_FRAMES


def test_another_process_of_the_site_goes_on_where_the_first_was(coordinator: Coordinator) -> None:
    carried = coordinator.statistics()
    probe = {f"probe/{name}": reply.arrays["probe"] for name, reply in coordinator.step(1, carried).items()}
    coordinator.sites = {name: replace(site) for name, site in coordinator.sites.items()}

    assert set(coordinator.step(2, probe)) == set(SOURCES)
    first, again = (coordinator.ask("held", coordinator.score_task(), carried).arrays for _ in range(2))
    assert {name: array.tobytes() for name, array in first.items()} == {n: a.tobytes() for n, a in again.items()}


def test_the_sites_key_can_be_read_by_its_owner_alone(coordinator: Coordinator) -> None:
    coordinator.ask_keys()

    folder = coordinator.sites["alpha"].state / "scoring"

    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key").exists()


def test_arrays_that_are_not_the_contracts_are_refused(coordinator: Coordinator, initial: Arrays) -> None:
    coordinator.ask_keys()
    coordinator.encoder = {f"phase1/{name}": array for name, array in initial.items()}

    assert refused(coordinator.statistics) is Reason.ARRAYS_MISMATCH

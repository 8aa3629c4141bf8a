"""The shift step over real sites in memory: what the coordinator makes of answers, and what sites refuse."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import OAS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from roiae.config import PrivacyConfig, Role, RunConfig, build_config
from roiae.contract import Arrays, KeysTask, ProbeTask, Reply, Request, ScoreTask, StatisticsTask, Task
from roiae.errors import Reason, RefusalError
from roiae.shift.latents import encode, encoder_arrays, load_encoder
from roiae.site import Site
from roiae_server.federation import MODEL_FILES, Federation
from roiae_server.run_folder import RunFolder, RunState
from roiae_server.transport import Outcome
from tests.conftest import MODEL
from tests.server.conftest import MeanAggregator, Silent

HELD_OUT = "held"
Hide = Callable[[str, Task], bool]


class Sites:
    """A transport to sites in this process; `away` says who does not answer what."""

    def __init__(self, sites: list[Site], away: Hide = lambda site, task: False) -> None:
        self.sites, self.away = {site.name: site for site in sites}, away
        self.asked: list[tuple[str, Request]] = []
        self.replies: list[Reply] = []

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        for name, request in requests.items():
            self.asked.append((name, request))
            yield self._outcome(name, request)

    def _outcome(self, name: str, request: Request) -> Outcome:
        if self.away(name, request.task):
            return Outcome(name, None, Reason.NO_REPLY, 1, 0)
        try:
            self.replies.append(self.sites[name].answer(request))
            return Outcome(name, self.replies[-1], None, 1, 1)
        except RefusalError as refusal:
            return Outcome(name, None, refusal.reason, 1, 1)


@pytest.fixture
def sites(make_site: Callable[..., Site]) -> list[Site]:
    """Two sources of uneven size, and a held-out site."""
    limits = PrivacyConfig(min_subjects=30, min_scored_frames=5)
    made = [make_site("alpha", 40, 12), make_site("beta", 55, 9), make_site(HELD_OUT, 10, 10, Role.HELD_OUT)]
    return [replace(site, privacy=limits) for site in made]


@pytest.fixture
def score(tmp_path: Path, initial: Arrays) -> Callable[..., dict[str, Any]]:
    """Runs, or resumes, the shift step alone, over two untrained encoders; returns `shift.json`."""
    later = {name: array * np.float32(1.1) for name, array in initial.items()}
    config = build_config({"model": MODEL.model_dump(), "control": False, "train": {"threads": 1}, "shift": {"k": 20}})
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": "float32"})})

    def run(transport: Sites, crash_after: int = 10**9) -> dict[str, Any]:
        path = tmp_path / "run"
        folder = RunFolder.open(path) or _at_the_shift(path, config, transport, {"phase1": initial, "phase2": later})
        try:
            Federation(folder, transport, MeanAggregator, lambda: initial, Silent(crash_after)).run()
        finally:
            folder.close()
        found: dict[str, Any] = json.loads((path / "shift.json").read_text())
        return found

    return run


def _at_the_shift(path: Path, config: RunConfig, transport: Sites, models: Mapping[str, Arrays]) -> RunFolder:
    """A run of which only the shift step is left."""
    from roiae_server.plan import plan

    roles = {name: site.role for name, site in transport.sites.items()}
    state = RunState(roles, {}, {}, contributed=dict.fromkeys(roles, 1))
    folder = RunFolder.create(path, config, state)
    for arm, arrays in models.items():
        folder.save_arrays(MODEL_FILES[arm], arrays)
    completed = replace(state, completed=len(plan(config)) - 1)
    folder.commit(completed, [], models["phase2"], MeanAggregator().state)
    return folder


def latents(site: Site, arrays: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(train, validation), in float64."""
    model = load_encoder(MODEL, encoder_arrays(arrays))
    train, validation = (
        encode(model, split, 16).astype(np.float64) for split in (site.data.train, site.data.validation)
    )
    return train, validation


def test_scores_equal_scikit_learn_on_the_pooled_latents(
    sites: list[Site], initial: Arrays, score: Callable[..., dict[str, Any]]
) -> None:
    """AUROC to 0.005: scores leave with three digits, which makes ties of 21 × 20 pairs. Unrounded scores are held to
    1e-6 in tests/shared/shift."""
    found = score(Sites(sites))

    (train_a, val_a), (train_b, val_b), held = (latents(site, initial) for site in sites)
    means = [train_a.mean(axis=0), train_b.mean(axis=0)]
    oas = OAS(assume_centered=True).fit(np.concatenate([train_a - means[0], train_b - means[1]]))
    near, far = np.concatenate([val_a, val_b]), np.concatenate(held)
    distance = [np.min([oas.mahalanobis(z - mean) for mean in means], axis=0) for z in (near, far)]
    expected = roc_auc_score(np.repeat([0, 1], [len(near), len(far)]), np.concatenate(distance))
    mahalanobis = found["phase1"]["mahalanobis"]
    assert mahalanobis["auroc"] == pytest.approx(expected, abs=0.005)
    assert mahalanobis["ci"]["auroc"][0] <= mahalanobis["auroc"] <= mahalanobis["ci"]["auroc"][1]
    assert mahalanobis["shrinkage"] == pytest.approx(oas.shrinkage_)
    np.testing.assert_allclose(found["phase1"]["scores"]["mahalanobis"][HELD_OUT], np.sort(distance[1]), rtol=5.01e-3)

    probe = found["phase1"]["provenance"]
    scaler = StandardScaler().fit(np.concatenate([train_a, train_b]))
    source = np.repeat([0, 1], [len(train_a), len(train_b)])
    model = LogisticRegression(C=probe["strength"], tol=1e-10, max_iter=10_000)
    model.fit(scaler.transform(np.concatenate([train_a, train_b])), source)
    p = model.predict_proba(scaler.transform(far))
    assert probe["max_softmax"] == pytest.approx(p.max(axis=1).mean(), rel=1e-4)
    assert probe["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-4)
    assert probe["accuracy"] == pytest.approx(
        model.score(scaler.transform(near), np.repeat([0, 1], [len(val_a), len(val_b)]))
    )
    assert sum(probe["histograms"]["entropy"]["held_out"]) == 20


def test_the_file_has_its_documented_keys_for_both_phases(
    sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    found = score(Sites(sites))

    assert set(found) == {"holdout", "sources", "phase1", "phase2", "left_out", "exchanges"}
    assert (found["holdout"], found["sources"], found["left_out"]) == (HELD_OUT, ["alpha", "beta"], {})
    assert found["exchanges"] <= 30
    for arm in ("phase1", "phase2"):
        assert set(found[arm]) == {"mahalanobis", "knn", "provenance", "scores"}
        assert {"auroc", "aupr", "fpr95", "ci", "k"} <= set(found[arm]["knn"])
        assert {site: len(s) for site, s in found[arm]["scores"]["knn"].items()} == {
            "alpha": 12,
            "beta": 9,
            HELD_OUT: 20,
        }


def test_what_travels_is_sealed_or_a_score(sites: list[Site], score: Callable[..., dict[str, Any]]) -> None:
    """The coordinator reads keys, scores and the probe's chosen strength; the held-out site gives no statistic."""
    transport = Sites(sites)

    score(transport)

    assert {type(r.task) for name, r in transport.asked if name == HELD_OUT} == {KeysTask, ScoreTask}
    kinds = [r.kind for name, r in transport.asked if name == "alpha"]
    assert (kinds[:2], kinds[-1]) == (["query.keys", "query.statistics"], "query.scores")
    assert set(kinds[2:-1]) == {"query.probe"}
    read = {name for reply in transport.replies for name, array in reply.arrays.items() if array.dtype != np.uint8}
    assert {name.partition("/")[2].partition(".")[0] for name in read} == {"scores", "choice", "reading", "shrinkage"}
    assert {name for reply in transport.replies for name in reply.arrays} - read == {"key", "statistics", "probe"}


def test_a_held_out_site_gives_no_statistic(sites: list[Site], initial: Arrays) -> None:
    keys = {name: f"{place:064x}" for place, name in enumerate(("alpha", HELD_OUT))}
    asked: dict[str, Any] = {"model": MODEL, "batch_size": 4, "threads": 1, "arms": ("phase1",), "keys": keys}
    asked["sources"] = ("alpha", HELD_OUT)
    for task in (StatisticsTask(**asked), ProbeTask(**asked, step=1)):
        with pytest.raises(RefusalError) as refused:
            sites[2].answer(Request(task, {f"phase1/{n}": a for n, a in encoder_arrays(initial).items()}))

        assert refused.value.reason is Reason.HELD_OUT


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


@pytest.mark.parametrize("crash_after", [1, 5, 11])
def test_a_run_killed_in_the_shift_step_ends_with_the_same_bytes(
    sites: list[Site], score: Callable[..., dict[str, Any]], tmp_path: Path, crash_after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(Sites(sites), crash_after)

    again = score(Sites(sites))

    (tmp_path / "run").rename(tmp_path / "killed")
    assert score(Sites(sites)) == again


def test_scores_leave_once_a_checkpoint(
    sites: list[Site], score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    transport = Sites(sites)
    score(transport)
    question = next(r for name, r in reversed(transport.asked) if name == HELD_OUT)
    assert isinstance(question.task, ScoreTask)

    first, again = (sites[2].answer(question) for _ in range(2))

    assert all(first.arrays[name].tobytes() == again.arrays[name].tobytes() for name in first.arrays)
    with pytest.raises(RefusalError) as refused:
        sites[2].answer(replace(question, task=question.task.model_copy(update={"k": 25})))
    assert refused.value.reason is Reason.ALREADY_ANSWERED

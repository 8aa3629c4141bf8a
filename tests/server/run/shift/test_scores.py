"""What the coordinator makes of the hospitals' answers, and what it can read of them."""

from collections.abc import Callable
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

from roiae.errors import Reason, RefusalError
from roiae.shift.latents import encode, encoder_arrays, load_encoder
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, KeysTask, ProbeTask, Request, ScoreTask, StatisticsTask
from tests.conftest import MODEL
from tests.server.run.shift.conftest import HELD_OUT, Sites


def latents(site: Site, arrays: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(train, validation), in float64."""
    model = load_encoder(MODEL, encoder_arrays(arrays))
    train, validation = (
        encode(model, split, 16).astype(np.float64) for split in (site.data.train, site.data.validation)
    )
    return train, validation


@pytest.mark.parametrize("more", [{}, {"gamma": (31, 6), "kappa": (70, 14), "omega": (38, 11)}], ids=["two", "five"])
def test_scores_equal_scikit_learn_on_the_pooled_latents(
    sites: list[Site],
    make_site: Callable[..., Site],
    initial: Arrays,
    score: Callable[..., dict[str, Any]],
    more: dict[str, tuple[int, int]],
) -> None:
    """AUROC to 0.005: scores leave with three digits, which makes ties. Unrounded scores are held to 1e-6 in
    tests/shared/shift."""
    added = [replace(make_site(name, *frames), privacy=sites[0].privacy) for name, frames in more.items()]
    *sources, held_out = [*sites[:2], *added, sites[2]]

    found = score(Sites([*sources, held_out]))

    trains, vals = zip(*(latents(site, initial) for site in sources), strict=True)
    near, far = np.concatenate(vals), np.concatenate(latents(held_out, initial))
    means = [train.mean(axis=0) for train in trains]
    centred = np.concatenate([train - mean for train, mean in zip(trains, means, strict=True)])
    oas = OAS(assume_centered=True).fit(centred)
    distance = [np.min([oas.mahalanobis(z - mean) for mean in means], axis=0) for z in (near, far)]
    expected = roc_auc_score(np.repeat([0, 1], [len(near), len(far)]), np.concatenate(distance))
    mahalanobis = found["phase1"]["mahalanobis"]
    assert mahalanobis["auroc"] == pytest.approx(expected, abs=0.005)
    assert mahalanobis["ci"]["auroc"][0] <= mahalanobis["auroc"] <= mahalanobis["ci"]["auroc"][1]
    assert mahalanobis["shrinkage"] == pytest.approx(oas.shrinkage_)
    np.testing.assert_allclose(found["phase1"]["scores"]["mahalanobis"][HELD_OUT], np.sort(distance[1]), rtol=5.01e-3)

    probe = found["phase1"]["provenance"]
    scaler = StandardScaler().fit(np.concatenate(trains))
    model = LogisticRegression(C=probe["strength"], tol=1e-10, max_iter=10_000)
    model.fit(scaler.transform(np.concatenate(trains)), np.repeat(np.arange(len(trains)), [*map(len, trains)]))
    p = model.predict_proba(scaler.transform(far))
    assert probe["max_softmax"] == pytest.approx(p.max(axis=1).mean(), rel=1e-4)
    assert probe["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-4)
    origin = np.repeat(np.arange(len(vals)), [*map(len, vals)])
    assert probe["accuracy"] == pytest.approx(model.score(scaler.transform(near), origin))
    assert sum(probe["histograms"]["entropy"]["held_out"]) == len(far)


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

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from roiae.errors import RefusalError
from roiae.shift.mahalanobis import SourceMoments, latent_sums
from roiae.shift.newton import Probe, ProbeFit, fit_from_arrays, fit_to_arrays, start_probe
from roiae.shift.outcome import NotComputed, WhyNot
from roiae.shift.probe import FOLDS, ProbeQuestion, ProbeSums, Standard, probe_reading, probe_sums, subject_folds
from roiae.wire.contract import MAX_STEPS

Latents = dict[str, NDArray[np.float32]]


def names(frames: int) -> list[str]:
    return [f"S{index}" for index in range(frames)]


def fit(latents: Latents, strengths: tuple[float, ...]) -> tuple[Probe | NotComputed, int]:
    """The probe and the number of steps."""
    state = started(latents, strengths)
    while (question := state.question()) is not None:
        first, *others = (probe_sums(z, names(len(z)), site, question) for site, z in sorted(latents.items()))
        state = state.advance(sum(others, first))
    return state.result(), state.steps


def started(latents: Latents, strengths: tuple[float, ...]) -> ProbeFit:
    return start_probe(SourceMoments.of({site: latent_sums(z) for site, z in latents.items()}), strengths)


def pooled_reference(latents: Latents, strength: float) -> NDArray[np.float64]:
    design = StandardScaler().fit_transform(np.concatenate([latents[s] for s in sorted(latents)]).astype(np.float64))
    source = np.repeat(np.arange(len(latents)), [len(latents[s]) for s in sorted(latents)])
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000).fit(design, source)
    return np.concatenate([model.coef_, model.intercept_[:, None]], axis=1)


@pytest.mark.parametrize("strength", [1e-3, 1e-1, 1.0])
def test_coefficients_equal_scikit_learn_on_the_pooled_latents(latents: Latents, strength: float) -> None:
    probe, _ = fit(latents, (strength,))

    assert isinstance(probe, Probe)
    np.testing.assert_allclose(probe.weights, pooled_reference(latents, strength), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strength", [1e-2, 1.0, 100.0])
def test_separable_hospitals_and_weak_regularisation_converge(
    make_latents: Callable[..., Latents], strength: float
) -> None:
    latents = make_latents(2, dim=60, offset=3.0)

    probe, steps = fit(latents, (strength,))

    assert isinstance(probe, Probe)
    assert steps <= MAX_STEPS
    np.testing.assert_allclose(probe.weights, pooled_reference(latents, strength), rtol=1e-4, atol=1e-4)


def test_the_strength_is_the_one_of_least_log_loss_over_the_folds(latents: Latents) -> None:
    probe, _ = fit(latents, (1e-4, 1e-2, 1.0))

    assert isinstance(probe, Probe)
    design = StandardScaler().fit_transform(np.concatenate([latents[s] for s in sorted(latents)]).astype(np.float64))
    source = np.repeat(np.arange(len(latents)), [len(latents[s]) for s in sorted(latents)])
    folds = np.concatenate([subject_folds(names(len(latents[s]))) for s in sorted(latents)])
    for strength, log_loss in probe.log_loss.items():
        losses = []
        for fold in range(FOLDS):
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(
                design[folds != fold], source[folds != fold]
            )
            p = model.predict_proba(design[folds == fold])
            losses.extend(-np.log(p[np.arange(len(p)), source[folds == fold]]))
        assert log_loss == pytest.approx(np.mean(losses), rel=1e-2)
    assert probe.strength == min(probe.log_loss, key=lambda strength: probe.log_loss[strength])


def test_gradients_equal_finite_differences(latents: Latents) -> None:
    question = started(latents, (1.0,)).question()
    assert question is not None
    rng = np.random.default_rng(0)
    here, direction = 0.1 * rng.normal(size=question.weights.shape), rng.normal(size=question.weights.shape)

    def at(weights: NDArray[np.float64]) -> ProbeSums:
        asked = ProbeQuestion(question.sources, question.standard, weights, question.folds)
        return probe_sums(latents["site1"], names(len(latents["site1"])), "site1", asked)

    slope = (at(here + 1e-6 * direction).loss - at(here - 1e-6 * direction).loss) / 2e-6
    np.testing.assert_allclose((at(here).gradient * direction).sum(axis=(1, 2)), slope, rtol=1e-5)


def test_a_fit_that_was_laid_aside_goes_on_as_if_it_had_not_been(latents: Latents) -> None:
    """Between any two steps, to the last bit."""
    state, kept = (started(latents, (1e-2, 1.0)) for _ in range(2))
    while (question := state.question()) is not None:
        first, *others = (probe_sums(z, names(len(z)), site, question) for site, z in sorted(latents.items()))
        pooled = sum(others, first)
        state, kept = state.advance(pooled), fit_from_arrays(state.sources, fit_to_arrays(kept)).advance(pooled)

    one, other = state.result(), kept.result()
    assert isinstance(one, Probe) and isinstance(other, Probe)
    assert one.weights.tobytes() == other.weights.tobytes()
    assert (one.strength, one.log_loss, one.steps) == (other.strength, other.log_loss, other.steps)


def test_no_question_depends_on_the_last_bits_of_the_sums(latents: Latents) -> None:
    """Hospitals with different processors ask themselves the same one."""
    rng = np.random.default_rng(0)
    state, other = (started(latents, (1e-2, 1.0)) for _ in range(2))
    for _ in range(6):
        question, same = state.question(), other.question()
        assert question is not None and same is not None
        np.testing.assert_allclose(same.weights, question.weights, rtol=1e-6, atol=1e-9)
        first, *others = (probe_sums(z, names(len(z)), site, question) for site, z in sorted(latents.items()))
        pooled = sum(others, first)
        noise = 1 + 1e-14 * rng.normal(size=pooled.gradient.shape)
        state, other = state.advance(pooled), other.advance(replace(pooled, gradient=pooled.gradient * noise))


def test_constant_latents_give_a_probe_that_knows_nothing() -> None:
    probe, _ = fit({"site0": np.ones((60, 4), np.float32), "site1": np.ones((60, 4), np.float32)}, (1.0,))

    assert isinstance(probe, Probe)
    np.testing.assert_array_equal(probe.weights, 0)


def test_hopeless_latents_end_in_a_reason_and_not_in_an_exception(make_latents: Callable[..., Latents]) -> None:
    probe, steps = fit(make_latents(5, dim=40), (1e12,))

    assert isinstance(probe, NotComputed)
    assert probe.why is WhyNot.NOT_CONVERGED
    assert steps <= MAX_STEPS


def test_folds_are_even_and_a_function_of_the_subjects() -> None:
    names = [f"P{index % 50}" for index in range(130)]

    folds = subject_folds(names)

    assert np.bincount(subject_folds(sorted(set(names)))).tolist() == [10] * FOLDS
    assert all(len({f for f, n in zip(folds, names, strict=True) if n == name}) == 1 for name in names)
    np.testing.assert_array_equal(subject_folds(names[::-1]), folds[::-1])


def test_readings_equal_their_definitions(latents: Latents) -> None:
    probe, _ = fit(latents, (1e-1,))
    assert isinstance(probe, Probe)
    design = probe.standard.design(latents["site1"])
    logits = design @ probe.weights.T
    logits = np.concatenate([0 * logits, logits], axis=1) if len(latents) == 2 else logits
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    halves = [probe_reading(part, probe.standard, probe.weights, 1) for part in np.split(latents["site1"], [20])]

    reading = halves[0] + halves[1]
    assert reading.means() == pytest.approx(
        {
            "max_softmax": p.max(axis=1).mean(),
            "entropy": entropy(p, axis=1).mean(),
            "accuracy": np.mean(p.argmax(axis=1) == 1),
        }
    )
    assert reading.softmax_histogram.sum() == reading.entropy_histogram.sum() == reading.frames


def test_an_overconfident_probe_has_a_finite_entropy() -> None:
    reading = probe_reading(np.array([[1e3], [-1e3]]), Standard(np.zeros(1), np.ones(1)), np.array([[30.0, 0.0]]), None)

    assert (reading.entropy, reading.max_softmax, reading.correct) == (0.0, 2.0, 0)


def test_latents_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RefusalError):
        Standard(np.zeros(1), np.ones(1)).design(np.array([[np.nan]]))

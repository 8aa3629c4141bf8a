"""The fit of the provenance probe: safeguarded quasi-Newton steps, which every source takes for itself.

All sources see the same sums, so all of them ask themselves the same next question; no one else needs to know it. The
curvature of the fits is modelled by the pooled scatter and the sources' means, weighted with the mean p_k·p_m, and
corrected by what gradients teach, step by step (L-BFGS, Nocedal & Wright 2006, algorithm 7.4, with that model as its
initial matrix). A step that does not lower the loss is halved. The optimum is that of the exact gradient, whatever the
model of the curvature. See `roiae.shift.probe` for why no Hessian is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from roiae.shift.mahalanobis import SourceMoments
from roiae.shift.outcome import Matrix, NotComputed, WhyNot
from roiae.shift.probe import FOLDS, NO_FOLD, ProbeQuestion, ProbeSums, Standard
from roiae.shift.wire import from_arrays, to_arrays
from roiae.wire.contract import MAX_STEPS, Arrays

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # C = 1/λ, as scikit-learn has it
_CHOOSE_BY = MAX_STEPS - 10  # of these steps; a strength that is not there by then takes no part
# A fit has arrived when its next step changes no weight by more than this share of the largest.
_CLOSE = 3e-5
_CLOSE_FOR_CHOICE = 1e-2  # changes the log-loss of a fold by some 1e-3 of itself
_ARMIJO = 1e-4


@dataclass(frozen=True)
class _Fit:
    """One strength with one fold left out, between two steps."""

    strength: float
    fold: int
    weights: Matrix  # [R, D + 1], the best so far
    trial: Matrix  # [R, D + 1], asked about next
    gradient: Matrix  # [R, D + 1], at the weights
    secants: Matrix  # [M, 2, R·(D + 1)], changes of the weights and of the gradient
    left_out: Matrix  # [2], Σ log-loss, nats, and frames of the fold left out, at the weights
    loss: float = np.inf  # at the weights, penalty included; infinite before the first answer
    change: float = np.inf  # of the step that would be next, relative to the largest weight

    @classmethod
    def at_zero(cls, strength: float, fold: int, zero: Matrix) -> "_Fit":
        return cls(strength, fold, zero, zero, zero, np.empty((0, 2, zero.size)), np.zeros(2))


@dataclass(frozen=True)
class Probe:
    """A fitted probe and how it was come by."""

    sources: tuple[str, ...]
    standard: Standard
    weights: Matrix  # [R, D + 1], the intercept last
    strength: float  # the C that was chosen
    log_loss: dict[float, float]  # by C: mean over frames and folds, nats
    steps: int


@dataclass(frozen=True)
class _Curvature:
    """A model of Σ p_k·p_m·xxᵀ. The frames that two sources are uncertain about are, in equal shares, their own."""

    outer: Matrix  # [K, D + 1, D + 1], mean xxᵀ of each source about the pooled scatter and its own mean
    frames: Matrix  # [K]

    @classmethod
    def of(cls, moments: SourceMoments, standard: Standard) -> "_Curvature":
        scatter = moments.within / moments.pooled.frames / np.outer(standard.std, standard.std)
        offsets = [np.append((moments.means[s] - standard.mean) / standard.std, 1.0) for s in moments.sources]
        outer = np.stack([np.outer(x, x) + np.pad(scatter, (0, 1)) for x in offsets])
        return cls(outer, np.array([moments.frames[s] for s in moments.sources], dtype=np.float64))

    def solve(self, vector: Matrix, spread: Matrix, penalty: float) -> Matrix:
        """The inverse of the model, the penalty added, times [R, D + 1]."""
        rows, dim = vector.shape
        blocks = np.zeros((rows, dim, rows, dim))
        for pair, (k, m) in enumerate(combinations(range(len(self.outer)), 2)):
            shares = spread[pair] * self.frames[[k, m]] / self.frames[[k, m]].sum()
            block = shares[0] * self.outer[k] + shares[1] * self.outer[m]
            if rows == 1:
                blocks[0, :, 0, :] = block
            else:
                blocks[k, :, k, :] += block
                blocks[m, :, m, :] += block
                blocks[k, :, m, :] -= block
                blocks[m, :, k, :] -= block
        for row in range(rows):
            blocks[row, range(dim - 1), row, range(dim - 1)] += penalty
        if rows > 1:  # one number added to all intercepts changes no probability; gradients have no part along it
            blocks[:, -1, :, -1] += 1.0
        matrix = blocks.reshape(rows * dim, rows * dim)
        # Where all frames are certain, the intercept has no curvature.
        matrix[np.diag_indices_from(matrix)] += 1e-9 * max(penalty, float(np.trace(matrix)) / len(matrix))
        solved: Matrix = cho_solve(cho_factor(matrix, overwrite_a=True), vector.ravel())
        return solved.reshape(rows, dim)


@dataclass(frozen=True)
class ProbeFit:
    """All fits for one encoder, between two steps. Every step makes a new one."""

    sources: tuple[str, ...]
    standard: Standard
    curvature: _Curvature
    fits: tuple[_Fit, ...]
    steps: int = 0
    chosen: float | None = None
    log_loss: Mapping[float, float] = field(default_factory=dict)

    @property
    def active(self) -> tuple[int, ...]:
        """Places of the fits that still ask; once the strength is chosen, that of the chosen on all frames alone."""
        return tuple(
            i
            for i, fit in enumerate(self.fits)
            if fit.change > (_CLOSE if fit.fold == NO_FOLD else _CLOSE_FOR_CHOICE)
            and (self.chosen is None or (fit.fold, fit.strength) == (NO_FOLD, self.chosen))
        )

    def question(self) -> ProbeQuestion | None:
        """What every source answers next; None once the probe is fitted or out of steps."""
        if not self.active or self.steps >= MAX_STEPS:
            return None
        fits = [self.fits[i] for i in self.active]
        folds = np.array([fit.fold for fit in fits], dtype=np.int64)
        return ProbeQuestion(self.sources, self.standard, np.stack([fit.trial for fit in fits]), folds)

    def advance(self, pooled: ProbeSums) -> "ProbeFit":
        """One step on, from the sum of all sources' answers to this fit's question, in the question's order."""
        fits = list(self.fits)
        for place, index in enumerate(self.active):
            fits[index] = _step(fits[index], pooled, place, self.curvature)
        return _choose(replace(self, fits=tuple(fits), steps=self.steps + 1))

    def result(self) -> Probe | NotComputed:
        """The probe, once there is no question left."""
        fit = next((f for f in self.fits if f.fold == NO_FOLD and f.strength == self.chosen), None)
        if fit is None or fit.change > _CLOSE:
            return NotComputed(WhyNot.NOT_CONVERGED, f"the provenance probe did not converge in {self.steps} steps")
        # The step that would be next is smaller than the tolerance; it is taken without asking.
        return Probe(self.sources, self.standard, fit.trial, fit.strength, dict(self.log_loss), self.steps)


def start_probe(moments: SourceMoments, strengths: Sequence[float] = STRENGTHS) -> ProbeFit:
    """Fits at zero weights, one a strength and fold and one a strength on all frames."""
    pooled, sources = moments.pooled, moments.sources
    standard = Standard.of(pooled)
    zero = np.zeros((1 if len(sources) == 2 else len(sources), len(pooled.total) + 1))
    fits = (_Fit.at_zero(strength, fold, zero) for strength in strengths for fold in (NO_FOLD, *range(FOLDS)))
    return ProbeFit(sources, standard, _Curvature.of(moments, standard), tuple(fits))


def _step(fit: _Fit, pooled: ProbeSums, place: int, curvature: _Curvature) -> _Fit:
    """Take the trial if it lowers the loss enough, else try half of it."""
    penalty = 1 / fit.strength
    slopes = fit.trial * penalty
    slopes[:, -1] = 0
    loss = float(pooled.loss[place] + penalty / 2 * np.square(fit.trial[:, :-1]).sum())
    gradient = pooled.gradient[place] + slopes
    if np.isfinite(fit.loss):
        step = fit.trial - fit.weights
        expected = float((step * fit.gradient).sum())
        # Close to the optimum the loss no longer resolves a step; there the slope along it decides.
        flat = abs(loss - fit.loss) <= 1e-10 * abs(fit.loss) and abs(float((step * gradient).sum())) <= abs(expected)
        if not flat and not loss <= fit.loss + _ARMIJO * expected:
            return replace(fit, trial=_told(fit.weights + step / 2))
        secant = np.stack([step.ravel(), (gradient - fit.gradient).ravel()])
        if float(secant[0] @ secant[1]) > 0:
            fit = replace(fit, secants=np.concatenate([fit.secants, secant[None]]))
    left_out = np.array([pooled.left_out_loss[place], pooled.left_out_frames[place]])
    taken = replace(fit, weights=fit.trial, loss=loss, gradient=gradient, left_out=left_out)
    spread = pooled.spread[place]
    step = -_inverse_times(gradient, taken.secants, lambda vector: curvature.solve(vector, spread, penalty))
    size, largest = float(np.abs(step).max()), float(np.abs(taken.weights).max())
    change = size / largest if largest else np.inf if size else 0.0
    return replace(taken, trial=_told(taken.weights + step), change=change)


def _told(weights: Matrix) -> Matrix:
    """To float32's precision, so that hospitals whose processors round differently ask the same question."""
    return weights.astype(np.float32).astype(np.float64)


def _inverse_times(gradient: Matrix, secants: Matrix, model: Callable[[Matrix], Matrix]) -> Matrix:
    """The inverse curvature times the gradient: the model's inverse, corrected by the secants (two-loop recursion)."""
    vector, shares = gradient.ravel(), []
    for step, change in secants[::-1]:
        shares.append(float(step @ vector) / float(step @ change))
        vector = vector - shares[-1] * change
    vector = model(vector.reshape(gradient.shape)).ravel()
    for (step, change), share in zip(secants, reversed(shares), strict=True):
        vector = vector + step * (share - float(change @ vector) / float(step @ change))
    return vector.reshape(gradient.shape)


def _choose(state: ProbeFit) -> ProbeFit:
    """Choose the strength of least log-loss once every fit is close enough, or of those that are when time is up."""
    close = all(fit.change <= _CLOSE_FOR_CHOICE for fit in state.fits)
    if state.chosen is not None or not (close or state.steps >= _CHOOSE_BY):
        return state
    log_loss = {}
    for strength in dict.fromkeys(fit.strength for fit in state.fits):
        fits = [fit for fit in state.fits if fit.strength == strength]
        loss, frames = np.sum([fit.left_out for fit in fits], axis=0)
        if frames and all(fit.change <= _CLOSE_FOR_CHOICE for fit in fits):
            log_loss[strength] = float(loss / frames)
    if not log_loss:
        return state
    return replace(state, chosen=min(log_loss, key=lambda strength: log_loss[strength]), log_loss=log_loss)


def fit_to_arrays(fit: ProbeFit) -> Arrays:
    """All of a fit but its sources."""
    arrays = to_arrays("standard", fit.standard) | to_arrays("curvature", fit.curvature)
    for place, one in enumerate(fit.fits):
        arrays |= to_arrays(f"fits.{place}", one)
    chosen = np.nan if fit.chosen is None else fit.chosen
    log_loss = np.array(list(fit.log_loss.items()), dtype=np.float64).reshape(-1, 2)
    return arrays | {"steps": np.array(fit.steps), "chosen": np.array(chosen), "log_loss": log_loss}


def fit_from_arrays(sources: tuple[str, ...], arrays: Arrays) -> ProbeFit:
    """The fit that `fit_to_arrays` took apart."""
    count = sum(name.endswith(".trial") for name in arrays)
    chosen = float(arrays["chosen"])
    return ProbeFit(
        sources,
        from_arrays(Standard, "standard", arrays),
        from_arrays(_Curvature, "curvature", arrays),
        tuple(from_arrays(_Fit, f"fits.{place}", arrays) for place in range(count)),
        int(arrays["steps"]),
        None if np.isnan(chosen) else chosen,
        dict(arrays["log_loss"].tolist()),
    )

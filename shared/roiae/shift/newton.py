"""The coordinator's side of the provenance probe: safeguarded quasi-Newton steps from the sites' sums.

The curvature of the fits is modelled by sums that have been sent already, each site's second moment weighted with its
mean p_k·p_m, and corrected by what gradients teach, step by step (L-BFGS, Nocedal & Wright 2006, algorithm 7.4, with
that model as its initial matrix). A step that does not lower the loss is halved. The optimum is that of the exact
gradient, whatever the model of the curvature. See `roiae.shift.probe` for why no Hessian is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from roiae.shift.mahalanobis import LatentSums, pooled_sums
from roiae.shift.outcome import Matrix, NotComputed, WhyNot
from roiae.shift.probe import FOLDS, NO_FOLD, ProbeQuestion, ProbeSums, Standard

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # C = 1/λ, as scikit-learn has it
MOST_STEPS = 40
_CHOOSE_BY = 28  # of these steps; a strength that is not there by then takes no part
# A fit has arrived when its next step changes no weight by more than this share of the largest.
_CLOSE = 1e-5
_CLOSE_FOR_CHOICE = 1e-2  # changes the log-loss of a fold by some 1e-4 of itself
_ARMIJO = 1e-4


@dataclass(frozen=True)
class _Fit:
    """One strength with one fold left out, between two steps."""

    strength: float
    fold: int
    weights: Matrix  # [R, D + 1], the best so far
    trial: Matrix  # [R, D + 1], asked about next
    loss: float = np.inf  # at the weights, penalty included
    gradient: Matrix | None = None
    secants: tuple[tuple[Matrix, Matrix], ...] = ()  # changes of the weights and of the gradient, flat
    change: float = np.inf  # of the step that would be next, relative to the largest weight
    left_out: tuple[float, float] = (0.0, 0.0)  # Σ log-loss, nats, and frames of the fold left out, at the weights


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
class ProbeFit:
    """All fits for one encoder, between two steps. Every step makes a new one."""

    moments: Mapping[str, LatentSums]
    standard: Standard
    fits: tuple[_Fit, ...]
    steps: int = 0
    chosen: float | None = None
    log_loss: Mapping[float, float] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted(self.moments))

    @property
    def active(self) -> tuple[int, ...]:
        """Places of the fits that still ask: all until folds and fits are close enough to choose, then the chosen."""
        if self.chosen is None:
            return tuple(i for i, fit in enumerate(self.fits) if fit.change > _CLOSE_FOR_CHOICE)
        return tuple(
            i
            for i, fit in enumerate(self.fits)
            if fit.fold == NO_FOLD and fit.strength == self.chosen and fit.change > _CLOSE
        )

    def question(self) -> ProbeQuestion | None:
        """What to ask every source next; None once the probe is fitted or out of steps."""
        if not self.active or self.steps >= MOST_STEPS:
            return None
        fits = [self.fits[i] for i in self.active]
        folds = np.array([fit.fold for fit in fits], dtype=np.int64)
        return ProbeQuestion(self.sources, self.standard, np.stack([fit.trial for fit in fits]), folds)

    def advance(self, answers: Mapping[str, ProbeSums]) -> "ProbeFit":
        """One step on, from the answers of all the sources to this fit's question, in the question's order."""
        metric = _Metric(self.moments, self.standard)
        fits = list(self.fits)
        pooled = sum((answers[source] for source in self.sources[1:]), answers[self.sources[0]])
        for place, index in enumerate(self.active):
            spread = {source: answers[source].spread[place] for source in self.sources}
            fits[index] = _step(fits[index], pooled, place, spread, metric)
        return _choose(replace(self, fits=tuple(fits), steps=self.steps + 1))

    def result(self) -> Probe | NotComputed:
        """The probe, once there is no question left."""
        fit = next((f for f in self.fits if f.fold == NO_FOLD and f.strength == self.chosen), None)
        if fit is None or fit.change > _CLOSE:
            return NotComputed(WhyNot.NOT_CONVERGED, f"the provenance probe did not converge in {self.steps} steps")
        # The step that would be next is smaller than the tolerance; it is taken without asking.
        return Probe(self.sources, self.standard, fit.trial, fit.strength, dict(self.log_loss), self.steps)


def start_probe(moments: Mapping[str, LatentSums], strengths: Sequence[float] = STRENGTHS) -> ProbeFit | NotComputed:
    """Fits at zero weights, one a strength and fold and one a strength on all frames."""
    if len(moments) < 2:
        return NotComputed(WhyNot.ONE_SOURCE, f"{len(moments)} source hospitals sent sums; the probe needs 2")
    pooled = pooled_sums(moments)
    if not pooled.frames:
        return NotComputed(WhyNot.NO_FRAMES, "the source hospitals have no training frames")
    zero = np.zeros((1 if len(moments) == 2 else len(moments), len(pooled.total) + 1))
    fits = (_Fit(strength, fold, zero, zero) for strength in strengths for fold in (NO_FOLD, *range(FOLDS)))
    return ProbeFit(dict(moments), Standard.of(pooled), tuple(fits))


Ask = Callable[[Mapping[str, ProbeQuestion]], Mapping[str, Mapping[str, ProbeSums]]]


def fit_probes(
    ask: Ask, moments: Mapping[str, Mapping[str, LatentSums]], strengths: Sequence[float] = STRENGTHS
) -> dict[str, Probe | NotComputed]:
    """Fit the probes of several encoders in one sequence of exchanges.

    Args:
        ask: one exchange: questions by encoder to the answers by encoder and source. A source that is missing from
            any encoder's answers has dropped out, and all fits start again over the remaining.
        moments: sums by encoder and source.
    """
    sources = set.intersection(*(set(by_source) for by_source in moments.values()))
    while True:
        left = {encoder: {s: by_source[s] for s in sources} for encoder, by_source in moments.items()}
        states = {encoder: start_probe(by_source, strengths) for encoder, by_source in left.items()}
        fits = {encoder: state for encoder, state in states.items() if isinstance(state, ProbeFit)}
        while questions := {encoder: q for encoder, fit in fits.items() if (q := fit.question()) is not None}:
            answers = ask(questions)
            replied = set.intersection(*(set(answers.get(encoder, {})) for encoder in questions)) & sources
            if replied != sources:
                sources = replied
                break
            fits |= {encoder: fits[encoder].advance(answers[encoder]) for encoder in questions}
        else:
            refused = {encoder: state for encoder, state in states.items() if isinstance(state, NotComputed)}
            return refused | {encoder: fit.result() for encoder, fit in fits.items()}


class _Metric:
    """The curvature's model: Σ over sites of (mean p_k·p_m at the site) · (Σxxᵀ at the site), penalty added."""

    def __init__(self, moments: Mapping[str, LatentSums], standard: Standard) -> None:
        self.sources = sorted(moments)
        self.frames = {source: moments[source].frames for source in self.sources}
        self.outer = {source: _standardised(moments[source], standard) for source in self.sources}

    def solve(self, vector: Matrix, spread: Mapping[str, Matrix], penalty: float) -> Matrix:
        """The model's inverse times a flat vector."""
        classes, dim = len(self.sources), len(self.outer[self.sources[0]])
        rows = 1 if classes == 2 else classes
        blocks = np.zeros((rows, dim, rows, dim))
        for pair, (k, m) in enumerate(combinations(range(classes), 2)):
            block = sum((spread[s][pair] / self.frames[s] * self.outer[s] for s in self.sources), np.zeros((dim, dim)))
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
        solved: Matrix = cho_solve(cho_factor(matrix), vector)
        return solved


def _standardised(moments: LatentSums, standard: Standard) -> Matrix:
    """[D + 1, D + 1], Σxxᵀ of x = ((z − mean)/std, 1)."""
    offset = moments.mean - standard.mean
    inner = (moments.scatter + moments.frames * np.outer(offset, offset)) / np.outer(standard.std, standard.std)
    edge = (moments.frames * offset / standard.std)[:, None]
    return np.block([[inner, edge], [edge.T, np.full((1, 1), float(moments.frames))]])


def _step(fit: _Fit, pooled: ProbeSums, place: int, spread: Mapping[str, Matrix], metric: _Metric) -> _Fit:
    """Take the trial if it lowers the loss enough, else try half of it."""
    penalty = 1 / fit.strength
    slopes = fit.trial * penalty
    slopes[:, -1] = 0
    loss = float(pooled.loss[place] + penalty / 2 * np.square(fit.trial[:, :-1]).sum())
    gradient = pooled.gradient[place] + slopes
    if fit.gradient is not None:
        step = fit.trial - fit.weights
        expected = float((step * fit.gradient).sum())
        # Close to the optimum the loss no longer resolves a step; there the slope along it decides.
        flat = abs(loss - fit.loss) <= 1e-10 * abs(fit.loss) and abs(float((step * gradient).sum())) <= abs(expected)
        if not flat and not loss <= fit.loss + _ARMIJO * expected:
            return replace(fit, trial=fit.weights + step / 2)
        secant = (step.ravel(), (gradient - fit.gradient).ravel())
        if float(secant[0] @ secant[1]) > 0:
            fit = replace(fit, secants=(*fit.secants, secant))
    taken = replace(
        fit,
        weights=fit.trial,
        loss=loss,
        gradient=gradient,
        left_out=(float(pooled.left_out_loss[place]), float(pooled.left_out_frames[place])),
    )
    step = -_inverse_times(gradient, taken.secants, lambda vector: metric.solve(vector, spread, penalty))
    size, largest = float(np.abs(step).max()), float(np.abs(taken.weights).max())
    change = size / largest if largest else np.inf if size else 0.0
    return replace(taken, trial=taken.weights + step, change=change)


def _inverse_times(
    gradient: Matrix, secants: Sequence[tuple[Matrix, Matrix]], model: Callable[[Matrix], Matrix]
) -> Matrix:
    """The inverse curvature times the gradient: the model's inverse, corrected by the secants (two-loop recursion)."""
    vector, shares = gradient.ravel(), []
    for step, change in reversed(secants):
        shares.append(float(step @ vector) / float(step @ change))
        vector = vector - shares[-1] * change
    vector = model(vector)
    for (step, change), share in zip(secants, reversed(shares), strict=True):
        vector = vector + step * (share - float(change @ vector) / float(step @ change))
    return vector.reshape(gradient.shape)


def _choose(state: ProbeFit) -> ProbeFit:
    """Choose the strength of least log-loss once every fit is close enough, or of those that are when time is up."""
    if state.chosen is not None or (state.active and state.steps < _CHOOSE_BY):
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

"""An attacker who wants to know whether a frame was among a site's training frames, from what is known of the site.

It has frames of its own of the same scanner, and the encoder. A sum Σφ(z) over the site is attacked as a mean is traced
(Sankararaman et al. 2009; Dwork et al. 2015): a member pulls it towards its own φ, measured where the population varies
least. How far to whiten, and how to combine what it sees, it learns on sites that it makes of its own frames.

    python -m tests.shared.shift.membership MODEL.safetensors     the table of docs/SHIFT.md, half an hour of a core

MODEL is a checkpoint of a run, of which the encoder is used; the phantoms are new ones.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from roiae.shift.detection import Detection, detection
from roiae.shift.group import Group
from roiae.shift.knn import prototypes
from roiae.shift.mahalanobis import SourceMoments, latent_sums
from roiae.shift.newton import start_probe
from roiae.shift.outcome import Matrix, unit_latents
from roiae.shift.probe import NO_FOLD, log_probabilities, probe_sums

RANKS = (8, 32, 64, 128, 256, 512, 1024)  # of the population's directions that the attacker looks along
SHADOWS = 2  # sites that the attacker makes
TOGETHER = "all of one site"
APART = ("mean, as sent", "scatter of two sites", "probe of two sites")
# What is seen of a site: (the attacker's frames, the site's, candidates) → [N, F], larger where a candidate fits.
View = Callable[[Matrix, Matrix, Matrix], Matrix]
Quantity = Callable[[Matrix], Matrix]  # φ: latents [N, D] → [N, P]


def traced(
    quantity: Quantity,
    beside: tuple[Matrix, Matrix] | None = None,
    received: Callable[[Matrix], Matrix] = lambda total: total,
) -> View:
    """Σφ(z) over the site as it is received; with `beside`, another site's frames and population, over both."""

    def view(reference: Matrix, site: Matrix, candidates: Matrix) -> Matrix:
        known = quantity(reference)
        centre = known.mean(axis=0)
        values, vectors = np.linalg.eigh((known - centre) @ (known - centre).T)
        keep = values > 1e-9 * values[-1]
        values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
        axes = (known - centre).T @ vectors / values * np.sqrt(len(known))  # white coordinates of φ − centre
        total = received(quantity(site).sum(axis=0)) - len(site) * centre
        if beside is not None:
            total = total + (quantity(beside[0]) - quantity(beside[1]).mean(axis=0)).sum(axis=0)
        pull, own = total @ axes, (quantity(candidates) - centre) @ axes
        ranks = [min(rank, len(values)) for rank in RANKS]
        found = [(own[:, :r] @ pull[:r] - np.square(own[:, :r]).sum(axis=1) / 2) / len(site) for r in ranks]
        return np.stack(found, axis=1)

    return view


def leverage(beside: Matrix | None = None) -> View:
    """Scatter S about the site's own mean: zᵀS⁻¹z against zᵀΣ⁻¹z; with `beside`, that of two sites together."""

    def view(reference: Matrix, site: Matrix, candidates: Matrix) -> Matrix:
        offsets = candidates - site.mean(axis=0)
        scatter, frames = latent_sums(site).scatter, len(site)
        population = np.cov(reference.T)
        if beside is not None:
            scatter, frames = scatter + latent_sums(beside).scatter, frames + len(beside)
        found = []
        for share in (1e-4, 1e-3, 1e-2, 1e-1):
            ridge = share * np.trace(population) / len(population) * np.eye(len(population))
            inside, outside = (
                np.einsum("nd,de,ne->n", offsets, np.linalg.inv(of + ridge), offsets)
                for of in (scatter / frames, population)
            )
            found += [-np.log(inside), np.log(outside) - np.log(inside)]
        return np.stack(found, axis=1)

    return view


def nearness(subjects: int) -> View:
    """Prototypes of that many subjects: the distance to the nearest, plainly and where the population varies least."""

    def view(reference: Matrix, site: Matrix, candidates: Matrix) -> Matrix:
        groups = max(1, subjects // 10)
        names = [str(place) for place in range(len(site))]
        means = prototypes(site, names).means
        means = np.stack([part.mean(axis=0) for part in np.array_split(means, max(1, len(means) // groups))])
        values, vectors = np.linalg.eigh(np.cov(unit_latents(reference).T))
        found = []
        for share in (1.0, 1e-1, 1e-2, 1e-3, 1e-4):
            scale = vectors / np.sqrt(values + share * values[-1])
            near = unit_latents(candidates) @ scale
            squared = np.sort(np.square(near[:, None] - means @ scale).sum(axis=2), axis=1)
            typical = np.square(near[:, None] - (unit_latents(reference) @ scale)[::20]).sum(axis=2).mean(axis=1)
            found += [-squared[:, 0], typical - squared[:, 0], typical - squared.mean(axis=1)]
        return np.stack(found, axis=1)

    return view


def listed_scores(reference: Matrix, site: Matrix, candidates: Matrix) -> Matrix:
    """The site's Mahalanobis scores, as if of these frames: whether the candidate's own seems to be there."""
    covariance = np.cov(reference.T)
    ridge = 1e-2 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    far, precision = candidates - reference.mean(axis=0), np.linalg.inv(covariance + ridge)
    own = np.log(np.einsum("nd,de,ne->n", far, precision, far))
    # What the list is made with is known to the hospitals alone: the site's own mean and the pooled scatter.
    offset = site - site.mean(axis=0)
    true = np.log(np.einsum("nd,de,ne->n", offset, np.linalg.inv(np.cov(site.T) + ridge), offset))
    gap = np.sort(np.abs((own - own.mean())[:, None] - (true - true.mean())), axis=1)
    return np.stack([-gap[:, 0], -gap[:, :3].mean(axis=1), -np.abs(own - np.median(own))], axis=1)


def attack(
    views: Mapping[str, View], reference: Matrix, site: Matrix, others: Matrix, seed: int = 0
) -> dict[str, tuple[Matrix, Matrix]]:
    """By view and for all together, scores of the others and of the site's frames; larger seems the site's."""
    rng = np.random.default_rng(seed)
    made: list[dict[str, Matrix]] = []
    labels: list[NDArray[np.int64]] = []
    for _ in range(SHADOWS):
        inside, outside = np.split(rng.permutation(len(reference)), [len(site)])
        tried, rest = np.split(outside, [min(200, len(outside) // 3)])
        candidates = reference[np.concatenate([inside[:400], tried])]
        made.append(_seen(views, reference[rest], reference[inside], candidates))
        labels.append(np.repeat([1, 0], [min(len(inside), 400), len(tried)]))
    target = _seen(views, reference, site, np.concatenate([others, site]))
    found = {}
    for name in target:
        judge = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
        judge.fit(np.concatenate([of[name] for of in made]), np.concatenate(labels))
        judged = judge.decision_function(target[name])
        found[name] = judged[: len(others)], judged[len(others) :]
    return found


def _seen(views: Mapping[str, View], reference: Matrix, site: Matrix, candidates: Matrix) -> dict[str, Matrix]:
    seen = {name: StandardScaler().fit_transform(view(reference, site, candidates)) for name, view in views.items()}
    return {**seen, TOGETHER: np.concatenate([of for name, of in seen.items() if name not in APART], axis=1)}


def as_sent() -> Callable[[Matrix], Matrix]:
    """A sum as a site sends it, masked under another topic every time, and read as numbers; unsealed, for once."""
    private = {n: X25519PrivateKey.from_private_bytes(hashlib.sha256(n.encode()).digest()) for n in ("a", "b", "held")}
    keys = {name: key.public_key().public_bytes_raw() for name, key in private.items()}
    group, topics = Group("a", private["a"], ("a", "b"), keys, "e"), count()

    def received(total: Matrix) -> Matrix:
        return group.mask(str(next(topics)), total).view(np.int64)[:, -1].astype(np.float64)

    return received


def probe_quantity(first: Matrix, second: Matrix) -> Quantity:
    """What a frame of the first of two sites adds to the gradients and curvatures of all steps of their probe."""
    sites = {"first": first, "second": second}
    fit = start_probe(SourceMoments.of({name: latent_sums(z) for name, z in sites.items()}))
    asked: list[Matrix] = []
    while (question := fit.question()) is not None:
        asked.extend(question.weights[question.folds == NO_FOLD])
        sums = [probe_sums(z, [str(i) for i in range(len(z))], name, question) for name, z in sites.items()]
        fit = fit.advance(sums[0] + sums[1])

    def quantity(latents: Matrix) -> Matrix:
        x = fit.standard.design(latents)
        p = [np.exp(log_probabilities(x, weights)) for weights in asked]
        return np.concatenate([np.column_stack([of[:, 1:] * x, of[:, :1] * of[:, 1:]]) for of in p], axis=1)

    return quantity


@dataclass(frozen=True)
class Population:
    """Latents of one scanner: frames that may be a site's, others, and those that the attacker has."""

    inside: Matrix
    outside: Matrix
    reference: Matrix


def views(site: Matrix, other: Population, beside: Matrix) -> dict[str, View]:
    """By the name of the quantity, as the table has it."""
    steps = probe_quantity(site, beside)
    return {
        "mean": traced(lambda z: z),
        "scatter": leverage(),
        "prototypes of 10": nearness(10),
        "prototypes of 50": nearness(50),
        "probe, all steps": traced(steps),
        "scores": listed_scores,
        "mean, as sent": traced(lambda z: z, received=as_sent()),
        "scatter of two sites": leverage(beside),
        "probe of two sites": traced(steps, (beside, other.reference)),
    }


def measure(populations: tuple[Population, Population], subjects: int, repeats: int) -> dict[str, Detection]:
    """The attack's AUC on sites of so many subjects, by quantity."""
    found: dict[str, tuple[list[Matrix], list[Matrix]]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        for of, other in (populations, populations[::-1]):
            site, beside = (p.inside[rng.permutation(len(p.inside))[:subjects]] for p in (of, other))
            reference = of.reference[: max(1000, 2 * subjects)]
            for name, scores in attack(views(site, other, beside), reference, site, of.outside, repeat).items():
                for kept, more in zip(found.setdefault(name, ([], [])), scores, strict=True):
                    kept.append(more)
    measured = {name: detection(np.concatenate(far), np.concatenate(near)) for name, (far, near) in found.items()}
    return {name: of for name, of in measured.items() if isinstance(of, Detection)}


def phantom_latents(model: Path, scanner: int, frames: int) -> Matrix:
    """[frames, D], of new subjects."""
    import torch
    from safetensors.numpy import load_file

    from roiae.data.phantom import SCANNERS, draw_phantom
    from roiae.method.model import Autoencoder
    from roiae.method.training import load_arrays

    arrays = load_file(model)
    width, dim, side = 16, 128, 192
    encoder = Autoencoder(image_size=side, width=width, latent_dim=dim).eval()
    load_arrays(encoder, arrays)
    drawn = (draw_phantom(SCANNERS[scanner], seed, side=side).frame for seed in range(frames))
    with torch.no_grad():
        latents = [encoder.encode(torch.from_numpy(frame)[None, None].float() / 255).numpy() for frame in drawn]
    return np.concatenate(latents).astype(np.float64)


def main(model: Path) -> None:
    populations = []
    for scanner in (0, 1):
        z = phantom_latents(model, scanner, 3400)
        populations.append(Population(z[:1000], z[1000:1400], z[1400:]))
    for subjects, repeats in ((50, 2), (160, 1), (500, 1), (1000, 1)):
        for name, found in measure((populations[0], populations[1]), subjects, repeats).items():
            area = found.auroc
            print(f"{subjects} | {name} | {area.value:.2f} ({area.low:.2f} to {area.high:.2f})", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Simulation's reference for the k-NN score: the exact figure, for which every site's latents are pooled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roiae.config import Role, RunConfig
from roiae.shift.detection import auroc
from roiae.shift.knn import exact_knn_scores
from roiae.shift.latents import encode, encoder_arrays, load_encoder
from roiae.site.answers import Site
from roiae.wire.contract import SHIFT_ARMS, Arrays


def exact_auroc(sites: Sequence[Site], sources: Sequence[str], arrays: Arrays, config: RunConfig) -> float:
    """AUROC of the exact k-NN score, unrounded; k as in the run.

    Args:
        sources: whose training frames are the neighbours, as in the run's own figure.
        arrays: of the model.
    """
    model = load_encoder(config.model, encoder_arrays(arrays))
    batch = config.train.batch_size
    among = [site for site in sites if site.name in sources]
    (held_out,) = (site for site in sites if site.role is Role.HELD_OUT)
    training = np.concatenate([encode(model, site.data.train, batch) for site in among])
    near = np.concatenate([encode(model, site.data.validation, batch) for site in among])
    far = np.concatenate([encode(model, split, batch) for split in (held_out.data.train, held_out.data.validation)])
    scores = [exact_knn_scores(frames, training, config.shift.k) for frames in (near, far)]
    return auroc(*scores)


def has_exact_knn(shift: Mapping[str, Any]) -> bool:
    """Whether the exact figure stands beside every k-NN figure of `shift.json`."""
    return all("exact_auroc" in shift[arm]["knn"] for arm in SHIFT_ARMS if "auroc" in shift[arm]["knn"])


def with_exact_knn(
    shift: Mapping[str, Any], sites: Sequence[Site], models: Mapping[str, Arrays], config: RunConfig
) -> dict[str, Any]:
    """`shift.json` with `exact_auroc` and `difference` beside the k-NN figure, for each arm of `models`.

    A figure that was not computed has none beside it.
    """
    added = dict(shift)
    for arm, arrays in models.items():
        knn = shift[arm]["knn"]
        if "auroc" in knn:
            exact = exact_auroc(sites, shift["sources"], arrays, config)
            added[arm] = shift[arm] | {"knn": knn | {"exact_auroc": exact, "difference": knn["auroc"] - exact}}
    return added

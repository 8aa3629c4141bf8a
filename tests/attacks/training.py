"""Honest weights, as a run of a few rounds leaves them."""

from collections.abc import Sequence

import numpy as np

from roiae.data.site_data import FrameSet
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of, initial_arrays, load_arrays, train_round
from roiae.wire.contract import Arrays
from tests.attacks.crafted import MODEL
from tests.attacks.hospital import training

ROUNDS = 12


def federated(sites: Sequence[FrameSet], rounds: int = ROUNDS) -> Arrays:
    """The mean of the sites' updates, round after round, with the settings that a run has as shipped."""
    arrays = initial_arrays(MODEL, 0)
    for round_ in range(1, rounds + 1):
        means = {name: np.zeros(array.shape) for name, array in arrays.items()}
        for place, site in enumerate(sites):
            share = len(site) / sum(map(len, sites))
            for name, array in trained(arrays, site, round_, f"site-{place}").items():
                means[name] += share * array
        arrays = {name: mean.astype(np.float32) for name, mean in means.items()}
    return arrays


def trained(arrays: Arrays, data: FrameSet, round_: int, site: str) -> Arrays:
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, arrays)
    task = training(0, learning_rate=1e-3, local_epochs=2, weight_decay=1e-2, round=round_)
    train_round(model, data, task, site=site)
    return arrays_of(model)

"""How far the k-NN figure from prototypes is from the exact one, for every choice of sources and a held-out site.

    python -m tests.shared.shift.knn_error RUN [DATA]     the figures of docs/SHIFT.md, some minutes of a core

RUN is a finished run, of which the encoders are used. DATA is a folder with one folder a hospital; without it the
hospitals are the three phantoms of a default run, and then six.
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import combinations, islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file

from roiae.config import build_config, merge, read_settings
from roiae.data.site_data import SiteData, default_cache_dir
from roiae.shift.detection import auroc
from roiae.shift.knn import exact_knn_scores, knn_scores, prototypes
from roiae.shift.latents import encode, encoder_arrays, load_encoder
from roiae.wire.contract import SHIFT_ARMS
from roiae_lab.simulated_sites import hospital_folders
from roiae_server.run.federation import MODEL_FILES
from roiae_server.run.run_folder import CHECKPOINTS, CONFIG

KS = (25, 40, 50)
Floats = NDArray[np.floating]
Latents = tuple[Floats, Floats, tuple[str, ...]]  # training and validation [N, D]; the subject of each training frame


def errors(sites: Mapping[str, Latents], k: int) -> Iterator[float]:
    """The figure less the exact one, for every choice of sources and held-out site."""
    for held_out in sites:
        for count in (2, 3):
            for sources in combinations([name for name in sites if name != held_out], count):
                yield _error({name: sites[name] for name in sources}, sites[held_out], k)


def _error(sources: Mapping[str, Latents], held_out: Latents, k: int) -> float:
    first, *others = (prototypes(z, subjects) for z, _, subjects in sources.values())
    pooled = sum(others, first)
    frames = np.concatenate([z for _, z, _ in sources.values()]), np.concatenate(held_out[:2])
    training = np.concatenate([z for z, _, _ in sources.values()])
    estimated = auroc(*(knn_scores(z, pooled, k) for z in frames))
    return estimated - auroc(*(exact_knn_scores(z, training, k) for z in frames))


def main(run: Path, data: Path | None) -> None:
    phantoms = {"phantom": {"hospitals": 6, "subjects": 200}}
    config = build_config(merge(read_settings(run / CONFIG), phantoms))
    folders = hospital_folders(data, config, Console(stderr=True))
    opened = {
        name: SiteData.open(folder, image_size=config.model.image_size, cache_dir=default_cache_dir())
        for name, folder in folders.items()
    }
    for arm in SHIFT_ARMS:
        model = load_encoder(config.model, encoder_arrays(load_file(run / CHECKPOINTS / MODEL_FILES[arm])))
        sites = {
            name: (encode(model, site.train, 8), encode(model, site.validation, 8), site.train.subjects)
            for name, site in opened.items()
        }
        for count, k in product(sorted({3, len(sites)}), KS):
            found = np.abs(list(errors(dict(islice(sites.items(), count)), k)))
            over, most = (found > 0.02).sum(), found.max()
            print(f"{arm} | {count} | k = {k} | largest {most:.3f} | above 0.02: {over} of {len(found)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

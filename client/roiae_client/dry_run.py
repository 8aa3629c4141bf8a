"""What would leave this hospital: every allowed request, answered here and sent nowhere."""

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from roiae.config import Role, RunConfig
from roiae.contract import (
    TASKS,
    Arrays,
    CalibrateTask,
    EvaluateTask,
    ProbeTask,
    ScoreTask,
    ShiftArm,
    StatisticsTask,
    Task,
    TrainTask,
)
from roiae.envelope import NO_LINES, ROIAE, Ask
from roiae.kit import PROTOCOL
from roiae.losses import TERMS
from roiae.model import Autoencoder
from roiae.shift.knn import LEAST_PROTOTYPE_SUBJECTS, Prototypes, pooled_prototypes, prototypes
from roiae.shift.latents import encode, encoder_arrays, load_encoder
from roiae.shift.mahalanobis import SourceGaussians, latent_sums, pooled_sums, source_gaussians
from roiae.shift.probe import NO_FOLD, Standard
from roiae.shift.wire import to_arrays
from roiae.site import Site
from roiae.training import arrays_of
from roiae_client.desk import HospitalDesk
from roiae_client.ledger import Ledger, LedgerReader, Line
from roiae_client.site_config import SiteConfig

_ARM: ShiftArm = "phase1"
_NAMED = 2  # arrays of an answer that are named one by one
_RUN = RunConfig()


def dry_run(config: SiteConfig, open_site: Callable[[int, SiteConfig], Site], console: Console) -> None:
    """Answer one request of every kind that `site.yaml` allows, about the default model untrained; print what would go.

    Ledger, key and register are thrown away: nothing here counts as answered.

    Args:
        open_site: as a `HospitalDesk` takes it.

    Raises:
        DataError: the hospital's data cannot be used.
    """
    with TemporaryDirectory() as folder, console.status("reading the frames") as status:
        site = replace(open_site(_RUN.model.image_size, config), state=Path(folder) / "state")
        questions = _Questions(site)
        path = Path(folder) / "ledger.jsonl"
        ledger = Ledger(path)
        desk = HospitalDesk(config, ec.generate_private_key(ec.SECP384R1()), ledger, lambda side, config: site)
        for kind in [kind for kind in TASKS if kind in config.limits.requests]:
            status.update(f"answering {kind}")
            task, arrays = questions.of(kind)
            desk.answer(kind, _ask(), task.model_dump_json(), arrays)
        ledger.close()
        lines = list(LedgerReader(path))
    table = Table("request", "what would leave", "bytes", "norm", box=None, pad_edge=False)
    for line in lines:
        norm = math.hypot(*(array["norm"] for array in line.arrays))
        table.add_row(line.kind, _left(line), f"{line.bytes:,}", f"{norm:.4g}" if line.arrays else "")
    console.print(table)
    console.print("Nothing was sent. Every request that `limits.requests` does not name is refused.", highlight=False)


class _Questions:
    """Small requests of every kind, as a coordinator would make them if another hospital had the very same frames."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._common: dict[str, Any] = {"model": _RUN.model, "batch_size": _RUN.train.batch_size, "threads": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RUN.seed)
            self._weights = arrays_of(Autoencoder(**_RUN.model.model_dump()))

    def of(self, kind: str) -> tuple[Task, Arrays]:
        """A task, and the arrays that come with it."""
        common, shift = self._common, {**self._common, "arms": (_ARM,)}
        match kind:
            case "train":
                return self._train(), self._weights
            case "query.calibrate":
                return CalibrateTask(**common, terms=tuple(TERMS), batches=2), self._weights
            case "evaluate":
                return EvaluateTask(**common), self._weights
            case "query.statistics":
                return StatisticsTask(**shift), self._encoder
            case "query.probe":
                weights = np.zeros((1, 1, _RUN.model.latent_dim + 1))  # of one fit; a row for two sources
                task = ProbeTask(**shift, sources=self._sources, folds={_ARM: (NO_FOLD,)})
                return task, self._encoder | self._standard | {f"{_ARM}/probe.weights": weights}
            case _:
                sources = self._sources
                score = ScoreTask(**shift, sources=sources, probe_sources=sources, k=_RUN.shift.k)
                return score, self._encoder | self._standard | self._references

    def _train(self) -> TrainTask:
        train = _RUN.train
        return TrainTask(
            **self._common,
            weights={"ms_ssim": 1.0},
            learning_rate=train.learning_rate,
            local_epochs=1,
            optimizer=train.optimizer,
            weight_decay=train.weight_decay,
            clip_norm=train.clip_norm,
            proximal_mu=0.0,
            augment=train.augment,
            precision="float32",
            seed=_RUN.seed,
            round=1,
        )

    @property
    def _sources(self) -> tuple[str, ...]:
        first = "another" if self._site.role is Role.HELD_OUT else self._site.name
        return (first, f"{first}-too")

    @property
    def _encoder(self) -> Arrays:
        return {f"{_ARM}/{name}": array for name, array in encoder_arrays(self._weights).items()}

    @cached_property
    def _latents(self) -> NDArray[np.float32]:
        model = load_encoder(_RUN.model, encoder_arrays(self._weights))
        return encode(model, self._site.data.train, _RUN.train.batch_size)

    @property
    def _standard(self) -> Arrays:
        pooled = pooled_sums(dict.fromkeys(self._sources, latent_sums(self._latents)))
        return to_arrays(f"{_ARM}/standard", Standard.of(pooled))

    @property
    def _references(self) -> Arrays:
        """The models that scores are made with, as far as these frames give any."""
        arrays: Arrays = {f"{_ARM}/probe.weights": np.zeros((1, _RUN.model.latent_dim + 1))}
        gaussians = source_gaussians(dict.fromkeys(self._sources, latent_sums(self._latents)))
        if isinstance(gaussians, SourceGaussians):
            arrays |= to_arrays(f"{_ARM}/gaussians", gaussians, without=("sources",))
        subjects = self._site.data.train.subjects
        if len(set(subjects)) >= LEAST_PROTOTYPE_SUBJECTS:
            own = prototypes(self._latents, subjects)
            pooled = pooled_prototypes(dict.fromkeys(self._sources, own), _RUN.shift.k)
            if isinstance(pooled, Prototypes):
                arrays |= to_arrays(f"{_ARM}/prototypes", pooled)
        return arrays


def _ask() -> Ask:
    return Ask(
        run="dry-run",
        request=uuid.uuid4().hex,
        roiae=ROIAE,
        protocol=PROTOCOL,
        acknowledged_lines=0,
        acknowledged_head=NO_LINES,
    )


def _left(line: Line) -> str:
    if line.reason:
        return f"nothing: {line.reason}"
    named = [f"{array['name']} {'×'.join(map(str, array['shape']))}".rstrip() for array in line.arrays]
    if len(named) > _NAMED:
        named[_NAMED:] = [f"… {len(named) - _NAMED} more arrays"]
    return "\n".join([*named, ", ".join(line.metrics)])

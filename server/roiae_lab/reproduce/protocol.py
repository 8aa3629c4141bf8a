"""One hospital held out, with one seed: every training that it takes, and the models that come of them.

OUT/<held-out hospital>/seed-<n>/<arm>/     a run folder an arm
OUT/<hospital>/alone/seed-<n>/              a hospital that trains alone, whoever is held out elsewhere
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from roiae.config import Role, RunConfig
from roiae.site.answers import Site
from roiae_lab.reproduce.arms import ALONE, METHOD, OTHER_ROI, POOLED, alone_config, branch_config, branches_of
from roiae_lab.reproduce.model_run import Model, ModelRun, fingerprints, load_model, train_alone, train_branch
from roiae_lab.reproduce.reshaped_sites import pooled_fingerprint, pooled_site
from roiae_lab.simulation import Simulation, simulate
from roiae_server.report.write import HTML
from roiae_server.run.plan import Arm


@dataclass(frozen=True)
class Protocol:
    """Who is held out, with which seed and settings, and the hospitals in their roles."""

    out: Path
    data: Path | None
    holdout: str
    config: RunConfig
    sites: list[Site]
    others: list[Site]  # the same, with boxes round another ROI

    @property
    def folder(self) -> Path:
        return self.out / self.holdout / f"seed-{self.config.seed}"

    @property
    def sources(self) -> list[Site]:
        return [site for site in self.sites if site.role is Role.SOURCE]

    def trainings(self, arms: Sequence[str]) -> Iterator[ModelRun]:
        """The method first: the branches need its phase 1."""
        yield self._method(scored_with_other_roi=OTHER_ROI in arms)
        for branch in branches_of(arms):
            yield self._branch(branch)
        if POOLED in arms:
            yield self._pooled()
        if ALONE in arms:
            yield from map(self._alone, self.sources)

    def _method(self, scored_with_other_roi: bool) -> ModelRun:
        trained: dict[str, Arm] = {"phase1": "phase1", "control": "control", METHOD: "phase2"}
        models = {name: Model(arm, self.sites) for name, arm in trained.items()}
        if scored_with_other_roi:
            models |= {f"{OTHER_ROI}/{arm}": Model(trained[arm], self.others) for arm in ("phase1", "control")}
        settings, path = self.config.model_dump(mode="json"), self.folder / METHOD
        return ModelRun(
            name=self._title(METHOD),
            label=METHOD,
            path=path,
            config=self.config,
            fingerprints=fingerprints(self.sites),
            frames=self._frames,
            arms=tuple(trained.values()),
            train=partial(simulate, Simulation(settings, self.data, self.holdout, path, engine="local", resume=True)),
            models=models,
            last_file=HTML,
        )

    def _branch(self, name: str) -> ModelRun:
        path, config = self.folder / name, branch_config(self.config, name)
        sites = self.others if name == OTHER_ROI else self.sites

        def train(console: Console) -> None:
            train_branch(path, config, sites, load_model(self.folder / METHOD, "phase1"), console)

        return ModelRun(
            name=self._title(name),
            label=name,
            path=path,
            config=config,
            fingerprints=fingerprints(sites),
            frames=self._frames,
            arms=("phase2",),
            train=train,
            after=self.folder / METHOD,
            models={f"{OTHER_ROI}/{METHOD}" if name == OTHER_ROI else name: Model("phase2", sites)},
        )

    def _pooled(self) -> ModelRun:
        path, config = self.folder / POOLED, alone_config(self.config)

        def train(console: Console) -> None:
            train_alone(path, config, pooled_site(self.sources), console)

        return ModelRun(
            name=self._title(POOLED),
            label=POOLED,
            path=path,
            config=config,
            fingerprints={POOLED: pooled_fingerprint(self.sources)},
            frames=[sum(self._frames)],
            arms=("phase1", "phase2"),
            train=train,
            models={POOLED: Model("phase2", self.sites)},
        )

    def _alone(self, site: Site) -> ModelRun:
        path, config = self.out / site.name / ALONE / f"seed-{self.config.seed}", alone_config(self.config)
        return ModelRun(
            name=f"seed {self.config.seed}, {site.name} alone",
            label=ALONE,
            path=path,
            config=config,
            fingerprints=fingerprints([site]),
            frames=[len(site.data.train)],
            arms=("phase1", "phase2"),
            train=partial(train_alone, path, config, site),
            models={f"{ALONE}/{site.name}": Model("phase2", self.sites)},
        )

    @property
    def _frames(self) -> list[int]:
        return [len(site.data.train) for site in self.sources]

    def _title(self, arm: str) -> str:
        return f"seed {self.config.seed}, {self.holdout} held out: {arm}"

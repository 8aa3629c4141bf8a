"""`site.yaml`: what a hospital has decided about its own part; nothing that a coordinator sends can change it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roiae.config import Device, PrivacyConfig, Role, read_settings
from roiae.errors import ConfigError
from roiae.kit import Name

SITE_CONFIG = "site.yaml"

# Statistics, probe steps and scores tell more of a site's latents than sums of errors do: see docs/SHIFT.md.
RequestKind = Literal["train", "evaluate", "query.keys", "query.statistics", "query.probe", "query.scores"]
ALLOWED_BY_DEFAULT: tuple[RequestKind, ...] = ("train", "evaluate")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Section):
    """What this site answers, and to what extent."""

    requests: frozenset[RequestKind] = Field(
        frozenset(ALLOWED_BY_DEFAULT),
        description="what is answered; query.keys, .statistics, .probe and .scores may be added, see docs/SHIFT.md",
    )
    max_local_epochs: int = Field(10, ge=1, description="passes over the training split in one round")
    min_frames: int = Field(20, ge=1, description="training frames below which nothing is trained")
    min_subjects: int = Field(10, ge=1, description="training subjects below which nothing is trained")
    min_local_steps: int = Field(
        5, ge=1, description="optimiser steps behind an update; fewer would show single frames"
    )
    max_image_size: int = Field(512, ge=192, description="side of the model's square, px")
    max_parameters: int = Field(20_000_000, ge=1, description="size of the model; the default one has 3 million")
    max_batch_size: int = Field(64, ge=1, description="frames a step, which sets how much memory is needed")
    max_update_norm: float | None = Field(100.0, gt=0, description="L2 norm an update is clipped to; null for none")


class SiteConfig(_Section):
    """A hospital's own settings."""

    name: Name = Field(
        description="this hospital's name in the federation; the key carries it, so it is not changed here"
    )
    role: Role | None = Field(None, description="agreed at enrolment; `join` fills it in")
    data: Path = Field(description="folder with manifest.csv and its images; may be read-only")
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(None, description="CPU threads; null for all cores")
    device: Device = Field(
        "auto", description="what trains: auto, cpu, cuda or mps; auto takes a GPU where there is one"
    )
    ca_bundle: Path | None = Field(
        None, description="CA certificates, PEM, that are trusted besides the federation's: of a proxy that opens TLS"
    )
    validation_share: float = Field(0.2, gt=0, lt=1, description="share of the subjects kept from training")
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="share of unusable frames set aside before a run stops")
    limits: Limits = Limits()
    privacy: PrivacyConfig = PrivacyConfig()


def read_site_config(folder: Path) -> SiteConfig:
    """A hospital's settings; a relative data folder is relative to the hospital's own.

    Raises:
        ConfigError: the file is missing, or a setting is unknown, ill-typed or impossible.
    """
    path = folder / SITE_CONFIG
    settings = read_settings(path)
    try:
        config = SiteConfig.model_validate(settings)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise ConfigError(f"{path}: " + "; ".join(problems) + ". docs/HOSPITAL.md lists the settings.") from None
    bundle = (folder / config.ca_bundle).resolve() if config.ca_bundle else None
    return config.model_copy(update={"data": (folder / config.data).resolve(), "ca_bundle": bundle})

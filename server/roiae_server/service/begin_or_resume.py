"""A run between real hospitals, begun or taken up again: with no training library or Flower to load, so at once."""

from roiae.config import Role, RunConfig
from roiae.errors import ConfigError, RunFolderError
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.run.run_folder import RunFolder, RunState, installed_versions


def open_run(folder: CoordinatorFolder, name: str) -> RunFolder:
    """The run of that name, begun with the enrolled sites and `federation.yaml` as they are now if there is none.

    Raises:
        ConfigError: too few source hospitals, fewer than the quorum, or not one held-out one.
        RunFolderError: the run was begun with another configuration, or is in use.
    """
    path = folder.runs / name
    run = RunFolder.open(path)
    config = _resolved(folder.run_config)
    if run is None:
        roles = {site: enrolled.role for site, enrolled in folder.sites.items()}
        sources = [site for site, role in roles.items() if role is Role.SOURCE]
        if len(sources) < 2 or len(roles) - len(sources) != 1:
            raise ConfigError(
                f"{folder.path}: {len(sources)} source and {len(roles) - len(sources)} held-out hospitals are "
                "enrolled; a run needs at least two sources and one held-out. Enrol them with `roiae-server add-site`."
            )
        if (quorum := config.federation.quorum or 0) > len(sources):
            raise ConfigError(
                f"federation.quorum: {quorum} sources, and {len(sources)} are enrolled: the run would wait for ever. "
                "Lower it in federation.yaml, or enrol more with `roiae-server add-site`."
            )
        run = RunFolder.create(path, config, RunState(roles, {}, installed_versions()))
    elif run.config != config:
        run.close()
        raise RunFolderError(
            f"{path}: was begun with another configuration than federation.yaml has now. Put the old values back, or "
            "begin a new run with --run NAME."
        )
    return run


def _resolved(config: RunConfig) -> RunConfig:
    """`auto` for machines that are not this one: each hospital has its own device and threads, and all have float32."""
    train = config.train
    chosen = {"precision": "float32", "threads": 1}
    auto = {name: value for name, value in chosen.items() if getattr(train, name) == "auto"}
    return config.model_copy(update={"train": train.model_copy(update={**auto, "device": "cpu"})})

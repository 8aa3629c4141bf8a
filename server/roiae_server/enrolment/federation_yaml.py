"""`federation.yaml` as `init` writes it: the configuration of a run, as far as a coordinator looks at it first."""

from roiae.commented_yaml import commented_yaml
from roiae.config import RunConfig, descriptions

# What a coordinator looks at before the first run; every other setting has its default until it is added by hand.
_SHOWN = {
    "control": False,
    "phase1": {"rounds", "local_epochs"},
    "phase2": {"rounds", "local_epochs"},
    "strategy": {"name"},
    "federation": {"quorum", "deadline", "grace"},
    "privacy": {"min_subjects"},
}


def federation_yaml() -> str:
    """The text, every setting with what it means above it."""
    config = RunConfig(control=False).model_dump(mode="json")
    shown = {
        key: {name: config[key][name] for name in config[key] if name in wanted}
        if isinstance(wanted, set)
        else config[key]
        for key, wanted in _SHOWN.items()
    }
    head = (
        "The configuration of a run; docs/CONFIGURATION.md has every setting. A run keeps the one it began with.\n"
        "Try it first on one machine:  roiae-server simulate --config federation.yaml --data DIR"
    )
    return commented_yaml(head, shown, dict(descriptions(RunConfig)))

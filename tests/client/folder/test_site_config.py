"""What a hospital's settings say, and what is said of a setting that is none."""

from pathlib import Path

import pytest

from roiae.errors import ConfigError
from roiae_client.folder.site_config import REPLACED, Limits, SiteConfig, read_site_config


def written(folder: Path, limits: str) -> Path:
    (folder / "site.yaml").write_text(f"name: alpha\ndata: data\nlimits: {{{limits}}}\n")
    return folder


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_a_limit_of_an_earlier_version_is_refused_with_what_to_write_instead(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_site_config(written(tmp_path, f"{name.removeprefix('limits.')}: 64"))

    assert f"{name}: is no longer a setting" in str(refused.value)
    assert REPLACED[name] in str(refused.value)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    "limits",
    [
        "max_clip_norm: null",
        "max_update_norm: null",
        "optimizers: [lion]",
        "max_requests: {guess: 1}",
        "start_models: [abc]",
        "min_batch_size: 0",
    ],
)
def test_an_impossible_limit_is_one_message_that_names_it(tmp_path: Path, limits: str) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.{limits.partition(':')[0]}"):
        read_site_config(written(tmp_path, limits))


def test_limits_are_told_as_numbers_and_name_no_model_that_is_allowed() -> None:
    numbers = Limits(start_models=("a" * 64,)).as_numbers()

    assert numbers["limits.requests.train"] == 1.0
    assert "limits.requests.query.scores" not in numbers
    assert numbers["limits.optimizers.adamw"] == 1.0
    assert numbers["limits.require_augmentation"] == 1.0
    assert all(type(value) is float for value in numbers.values())
    told = {name.split(".")[1] for name in numbers}
    assert told == set(Limits.model_fields) - {"start_models"}


def test_what_a_site_asks_for_behind_every_number_comes_from_its_limits() -> None:
    config = SiteConfig(name="alpha", data=Path("data"), limits=Limits(min_frames=7, min_subjects=3))

    assert (config.limits.minimum.frames, config.limits.minimum.subjects) == (7, 3)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("max_batchsize: 3", r"limits\.max_batchsize: no such setting. Did you mean limits\.min_batch_size\?"),
        ("start_models: [7602]", r"limits\.start_models: expected digests"),
        ("start_models: ['7602']", r"expected digests of 64 letters and digits"),
        ("max_update_norm: null", r"limits\.max_update_norm: no limit is switched off; expected a value"),
    ],
)
def test_a_setting_that_is_none_is_said_in_words_that_help(tmp_path: Path, limits: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_site_config(written(tmp_path, limits))

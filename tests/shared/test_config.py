from pathlib import Path

import pytest
import yaml

from roiae.config import LOSS_TERMS, build_config, differences, fields, merge, parse_override, read_settings
from roiae.errors import ConfigError
from roiae.method.losses import TERMS


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("phase1.round=3", "Did you mean phase1.rounds?"),
        ("phas2.rounds=3", "Did you mean phase2?"),
        ("learning_rate=1", "Did you mean train.learning_rate?"),
        ("nonsense=1", "nonsense: no such setting"),
        ("model.image_size=200", "model.image_size: expected a multiple of 32 from 192; found 200"),
        ("model.image_size=160", "model.image_size"),
        ("phase2.rounds=1", "phase2.rounds: expected greater than or equal to 2; found 1"),
        ("seed=1.5", "seed: expected integer; found 1.5"),
        ("control=maybe", "control: expected boolean; found 'maybe'"),
        ("train.threads=many", "train.threads: expected 'auto' or integer; found 'many'"),
        ("train.learning_rate=.nan", "train.learning_rate"),
        ("federation.quorum=1", "federation.quorum"),
        ("phase2.weights={ms_ssim: 1, roi_l1: 1}", "phase2.weights: expected a weight for each of ms_ssim, roi_l1"),
        ("phase2.weights={ms_ssim: 1, roi_l1: 1, roi_edg: 1}", "phase2.weights: expected a weight for each of"),
        ("phase2.weights={ms_ssim: 1, roi_l1: 1, roi_edge: 0}", "phase2.weights: expected greater than 0; found 0"),
        ("phase2.weights={ms_ssim: 1, roi_l1: 1, roi_edge: .inf}", "phase2.weights: expected a finite number"),
        ("strategy.name=fedsgd", "'fedavg'"),
        ("model=3", "model: expected a mapping"),
        ("seed", "expected KEY=VALUE"),
        ("seed=[", "not valid YAML"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build_config(parse_override(override))

    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [("", "is empty"), ("# nothing\n", "is empty"), ("- a\n", "found a list"), ("a: [", "not valid YAML")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)

    with pytest.raises(ConfigError, match=r"run\.yaml") as raised:
        read_settings(path)

    assert named in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_settings(tmp_path / "none.yaml")


def test_a_written_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = build_config(merge(parse_override("train.learning_rate=3e-4"), parse_override("federation.quorum=2")))
    (tmp_path / "config.yaml").write_text(config.to_yaml())

    assert build_config(read_settings(tmp_path / "config.yaml")) == config
    assert config.train.learning_rate == 3e-4


def test_later_settings_lie_over_earlier_ones_key_by_key() -> None:
    settings = merge({"phase1": {"rounds": 3, "local_epochs": 2}}, parse_override("phase1.rounds=5"))

    assert settings == {"phase1": {"rounds": 5, "local_epochs": 2}}


def test_only_what_was_given_and_differs_is_a_difference() -> None:
    run = build_config(parse_override("phase1.rounds=5"))

    assert differences({}, run) == []
    assert differences(parse_override("phase1.rounds=5"), run) == []
    assert differences(parse_override("phase1.rounds=6"), run) == ["phase1.rounds: 5 in the run, 6 now"]


def test_a_table_of_weights_is_one_setting(tmp_path: Path) -> None:
    given = parse_override("phase2.weights={ms_ssim: 1, roi_l1: 0.5, roi_edge: 2}")
    (tmp_path / "config.yaml").write_text(build_config(given).to_yaml())
    run = build_config(read_settings(tmp_path / "config.yaml"))

    assert run.phase2.weights == {"ms_ssim": 1.0, "roi_l1": 0.5, "roi_edge": 2.0}
    assert differences(given, run) == []
    assert [line.partition(":")[0] for line in differences(parse_override("phase2.weights=null"), run)] == [
        "phase2.weights"
    ]


def test_a_weight_is_set_for_every_loss_term() -> None:
    assert tuple(TERMS) == LOSS_TERMS


def test_auto_agrees_with_whatever_it_was_resolved_to() -> None:
    run = build_config(parse_override("train.threads=2"))

    assert differences(parse_override("train.threads=auto"), run) == []


def test_every_setting_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "CONFIGURATION.md").read_text()

    for key, default, description in fields():
        assert description
        written = yaml.safe_dump(default).splitlines()[0]
        assert f"| `{key}` | `{written}` | {description} |" in page

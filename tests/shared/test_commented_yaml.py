import yaml

from roiae.commented_yaml import commented_yaml

SETTINGS = {"name": "ä b", "none": None, "list": ["x", "y"], "inner": {"share": 0.5, "deep": {"whole": True}}}
DESCRIBED = {key: f"what {key} is" for key in ("name", "none", "list", "inner.share", "inner.deep.whole")}


def test_what_is_written_reads_back() -> None:
    assert yaml.safe_load(commented_yaml("A head.", SETTINGS, DESCRIBED)) == SETTINGS


def test_every_setting_stands_under_its_description() -> None:
    lines = commented_yaml("A head,\nof two lines.", SETTINGS, DESCRIBED).splitlines()

    assert lines[:3] == ["# A head,", "# of two lines.", ""]
    assert lines[lines.index('name: "ä b"') - 1] == "# what name is"
    assert lines[lines.index("    whole: true") - 1] == "    # what inner.deep.whole is"

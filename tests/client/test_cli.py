from collections.abc import Callable
from pathlib import Path

import pytest

from roiae_client.cli import main

Command = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def roiae_client(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], cache_dir: Path, run_main: Callable[..., int]
) -> Command:
    monkeypatch.setenv("ROIAE_CACHE", str(cache_dir))

    def run(arguments: list[str]) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-client", *arguments])
        return code, *capfd.readouterr()

    return run


def test_check_counts_what_a_run_would_use(roiae_client: Command, hospitals: Path) -> None:
    code, out, _ = roiae_client(["check", str(hospitals / "alpha")])

    assert code == 0
    assert "training: 14 frames of 14 subjects" in out
    assert "validation: 2 frames of 2 subjects" in out


def test_check_names_what_would_stop_a_run(roiae_client: Command, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("image,subject,roi_x0,roi_y0,roi_x1,roi_y1\nlost.png,S1,0,0,5,5\n")

    code, _, err = roiae_client(["check", str(tmp_path)])

    assert (code, "lost.png" in err) == (4, True)


def test_check_refuses_an_impossible_size(roiae_client: Command, hospitals: Path) -> None:
    code, _, err = roiae_client(["check", str(hospitals / "alpha"), "--image-size", "100"])

    assert (code, "multiple of 32" in err) == (3, True)

"""What would leave, shown before anything does."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from roiae.config import PrivacyConfig, Role
from roiae.site.answers import Site, SiteFolder
from roiae.wire.contract import TASKS
from roiae_client.commands.dry_run import dry_run
from roiae_client.folder.site_config import Limits, SiteConfig
from roiae_client.recipe.loosened import what_limits_stop

Open = Callable[[int, SiteConfig], Site]


@pytest.fixture
def open_site(hospitals: Path, cache_dir: Path, tmp_path: Path) -> Open:
    def opened(side: int, config: SiteConfig) -> Site:
        role, privacy, state = config.role or Role.SOURCE, config.privacy, tmp_path / "state"
        return SiteFolder(config.name, role, config.data, cache_dir, side, 0.2, 0.0, privacy, state).open()

    return opened


@pytest.fixture
def said(hospitals: Path, open_site: Open) -> Callable[..., str]:
    """What a dry run prints: (settings of the site)."""

    def printed(limits: Limits, role: Role = Role.SOURCE) -> str:
        privacy = PrivacyConfig(min_subjects=10, min_scored_frames=2)
        config = SiteConfig(
            name="alpha", role=role, data=hospitals / "alpha", limits=limits, threads=1, privacy=privacy
        )
        console = Console(width=300)
        with console.capture() as capture:
            dry_run(config, open_site, console)
        return capture.get()

    return printed


@pytest.fixture
def rows(said: Callable[..., str]) -> Callable[..., dict[str, str]]:
    """A dry run's row of each request: (settings of the site)."""

    def shown(limits: Limits, role: Role = Role.SOURCE) -> dict[str, str]:
        lines = said(limits, role).splitlines()
        starts = {line.split(" ")[0]: n for n, line in enumerate(lines) if line.split(" ")[0] in TASKS}
        ends = [*list(starts.values())[1:], next(n for n, line in enumerate(lines) if line.startswith("limit ")) - 1]
        return {
            kind: " ".join(" ".join(lines[start:end]).split())
            for (kind, start), end in zip(starts.items(), ends, strict=True)
        }

    return shown


def test_shift_queries_are_asked_as_a_coordinator_would_and_not_remembered(
    rows: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    kinds = ["query.keys", "query.statistics", "query.probe", "query.scores"]
    left = rows(Limits(requests=frozenset(kinds)))

    assert list(left) == kinds
    assert "key 32" in left["query.keys"]
    assert "statistics 5" in left["query.statistics"]  # some 530,000 bytes, sealed
    assert "probe " in left["query.probe"]
    assert "phase1/scores.mahalanobis 2" in left["query.scores"]
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_every_allowed_request_is_answered(rows: Callable[..., dict[str, str]]) -> None:
    left = rows(Limits(requests=frozenset(TASKS), min_frames=1, min_subjects=1))

    assert list(left) == list(TASKS)
    assert not [kind for kind, row in left.items() if "nothing" in row]
    assert "encoder.0.weight 16×1×8×8" in left["train"]
    assert "… 48 more arrays" in left["train"]
    assert "5,224,4" in left["train"]


def test_what_the_sites_limits_refuse_is_shown_as_refused(rows: Callable[..., dict[str, str]]) -> None:
    left = rows(Limits(requests=frozenset({"train", "evaluate"}), min_frames=1000))

    assert list(left) == ["train", "evaluate"]
    assert "nothing: no-frames" in left["train"]
    assert "nothing: no-frames" in left["evaluate"]


def test_every_limit_is_shown_with_what_it_stops_and_a_loosened_one_with_what_it_gives_away(
    said: Callable[..., str],
) -> None:
    text = said(Limits(requests=frozenset({"evaluate"}), max_learning_rate=0.01))

    for name, stops in what_limits_stop():
        assert re.search(rf"^{re.escape(name)} .*{re.escape(stops)}", text, flags=re.M), name
    assert "Loosened: max_learning_rate 0.01 is above 0.003: " in text
    assert text.count("Loosened: ") == 1


def test_a_held_out_site_gives_quality_and_scores_alone(rows: Callable[..., dict[str, str]]) -> None:
    left = rows(Limits(requests=frozenset(TASKS), min_frames=1, min_subjects=1), Role.HELD_OUT)

    assert [kind for kind, row in left.items() if "held-out-site" not in row] == [
        "evaluate",
        "query.keys",
        "query.scores",
    ]

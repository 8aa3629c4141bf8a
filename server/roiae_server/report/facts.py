"""Everything that a report says, from a finished run's folder: `report.json`, whose schema is docs/REPORT.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from roiae.config import Role, RunConfig, fields, flatten
from roiae.method.calibration import Calibration
from roiae.method.metrics import MEASURES
from roiae_server.report.changes import Scores, change, pooled
from roiae_server.report.summary import summarise
from roiae_server.report.tables import ARM_NAMES, Quality
from roiae_server.run.records import Line, participation
from roiae_server.run.run_folder import QUALITY, SHIFT, RunFolder

Curves = dict[str, dict[str, dict[str, list[list[float]]]]]  # measure → arm → site → [round, value], rounds ascending


def gather(run: RunFolder) -> dict[str, Any]:
    """
    Args:
        run: finished.

    Raises:
        RunFolderError: one of its files is missing or damaged.
    """
    state = run.state
    lines = run.rounds()
    scored = run.read_json(QUALITY)
    quality = {arm: scored[arm] for arm in ARM_NAMES if arm in scored}
    validation = _validation(quality, state.sites)
    calibration = _calibration(run)
    facts: dict[str, Any] = {
        "run": {
            "name": run.path.resolve().name,
            "id": state.id,
            "status": state.status,
            "simulated": bool(state.fingerprints),
            "versions": state.versions,
        },
        "settings": settings(run.config),
        "participants": _participants(run, lines, calibration["frames"], quality["phase2"]),
        "calibration": calibration,
        "quality": quality,
        "validation": validation,
        "changes": _changes(quality, validation),
        "curves": _curves(run, lines, quality),
        "shift": run.read_json(SHIFT),
        "transfer": transfer(state.sites, lines),
    }
    return {"summary": summarise(facts), **facts}


def _calibration(run: RunFolder) -> Mapping[str, Any]:
    """`calibration.json`; of weights that were set by hand, them alone."""
    if run.config.phase2.weights:
        return Calibration(run.weights, magnitudes={}, frames={}, global_magnitudes={}, spread={}).to_json()
    found: Mapping[str, Any] = run.read_json("calibration.json")
    return found


def settings(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The whole configuration by dotted key, and those that differ from a default which is not `auto`."""
    whole = dict(flatten(config.model_dump(mode="json")))
    defaults = {key: default for key, default, _ in fields()}
    changed = {key: value for key, value in whole.items() if defaults[key] not in (value, "auto")}
    return {"changed": {key: {"value": whole[key], "default": defaults[key]} for key in changed}, "all": whole}


def _participants(
    run: RunFolder, lines: Sequence[Line], training_frames: Mapping[str, int], scored: Mapping[str, Scores]
) -> dict[str, Any]:
    """The held-out hospital last; frames as far as the hospitals said."""
    parts = participation(run.state.sites, lines)
    order = sorted(parts, key=lambda site: (parts[site].role is Role.HELD_OUT, site))
    return {
        site: {
            **parts[site].model_dump(),
            "rounds": run.state.contributed.get(site, 0),
            "training_frames": training_frames.get(site),
            "scored_frames": scored.get(site, {}).get("frames"),
        }
        for site in order
    }


def _validation(quality: Quality, roles: Mapping[str, Role]) -> dict[str, dict[str, float]]:
    """Each arm over the validation frames of the sources that were scored in all arms: the same frames everywhere."""
    common = set.intersection(*(set(scores) for scores in quality.values()))
    return {arm: pooled({site: scores[site] for site in common}, roles) for arm, scores in quality.items()}


def _changes(quality: Quality, validation: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Phase 2 against each other arm: by site, and over the validation frames."""
    later = quality["phase2"]
    return {
        arm: {
            "sites": {site: change(scores[site], later[site]) for site in sorted(later) if site in scores},
            "validation": change(validation[arm], validation["phase2"]) if validation[arm] else None,
        }
        for arm, scores in quality.items()
        if arm != "phase2"
    }


def _curves(run: RunFolder, lines: Sequence[Line], quality: Quality) -> Curves:
    """Quality after each round of training, from what sites measured of the weights they received, and the end's score.

    Rounds count from the run's start; phase 2 and its control both begin after phase 1's last.
    """
    curves: Curves = {name: {arm: {} for arm in quality} for name in MEASURES}
    for line in lines:
        if line.step in quality and line.status == "aggregated":
            for name in MEASURES:
                value = line.metrics.get(f"validation_{name}")
                if value is not None:  # absent where too few frames stand behind it
                    points = curves[name][line.step].setdefault(line.site, [])
                    points.append([_before(run, line.step) + line.round - 1, value])
    for arm, scores in quality.items():
        rounds = run.config.phase1.rounds if arm == "phase1" else run.config.phase2.rounds
        last = _before(run, arm) + rounds
        for site, of in scores.items():
            for name in MEASURES:
                curves[name][arm].setdefault(site, []).append([last, of[name]])
    return curves


def _before(run: RunFolder, arm: str) -> int:
    """Rounds of training that a model has had before its arm begins."""
    return 0 if arm == "phase1" else run.config.phase1.rounds


def transfer(sites: Mapping[str, Role], lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Bytes as serialised, of every request and reply, and seconds of the hospitals' own work."""
    of: dict[str, dict[str, float]] = {
        site: {"bytes_sent_to_it": 0, "bytes_received_from_it": 0, "seconds": 0.0} for site in sorted(sites)
    }
    for line in lines:
        if line.site in of:
            of[line.site]["bytes_sent_to_it"] += line.bytes_out
            of[line.site]["bytes_received_from_it"] += line.bytes_in
            of[line.site]["seconds"] += line.seconds or 0.0
    return of

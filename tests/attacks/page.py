"""The table of docs/PRIVACY.md, written of what the attacks recorded: `python -m tests.attacks.page RECORD…`

The words around it are written by hand; the table stands between two marks.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.page import ROOT

PAGE = ROOT / "docs" / "PRIVACY.md"
BEGIN, END = "<!-- table: make attacks -->\n", "<!-- end of table -->\n"

ATTACKS = {
    "recipe": "a frame from one update, settings of the coordinator's choice (SGD, batches of one, no clipping)",
    "weights": "a frame from one update, the hospital's recipe, weights made by hand",
    "floor": "the same without a history of weights, but gradients below 1e-10 dropped",
    "adapted": "the same, and the weights made for it: one neuron, one bit a pixel",
    "flat": "a frame from one update, weights near the run's own first ones that show a flat picture",
    "several": "a frame from four updates of the same weights, put together",
    "drift": "a frame from one update, honest weights led into a trap by allowed steps (off: a larger trap, at once)",
    "oracle": "one frame's mean intensity from two `evaluate` answers",
    "forged request": "a request that another key signed",
    "replayed request": "the coordinator's request, sent again by somebody else",
    "forged head": "a ledger head that the hospital never had",
    "membership: update": "whether a frame was trained on, from one update",
    "membership: model": "whether a frame was trained on, from the federated model",
}
HEAD = """\
| attack | mechanism off | mechanism on | a neighbour |
|---|---|---|---|
"""


def table(samples: Iterable[Mapping[str, Any]]) -> str:
    """As Markdown; what was not tried is named below.

    Args:
        samples: one an attack: attack, commit, and what its test recorded.
    """
    known = {sample["attack"]: sample for sample in samples}
    text = HEAD + "".join(_row(known[attack]) for attack in ATTACKS if attack in known)
    commits = sorted({sample["commit"] for sample in known.values()})
    text += f"\nCommit {', '.join(commits)}." if commits else ""
    missing = [what for attack, what in ATTACKS.items() if attack not in known]
    return text + (f" Not tried this time: {'; '.join(missing)}.\n" if missing else "\n")


def put_in(page: str, written: str) -> str:
    """The page with this table in place of the last one."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + written + END + after


def _row(sample: Mapping[str, Any]) -> str:
    refused = ", ".join(f"`{reason}`" for reason in sample.get("refused", ()))
    on = "; ".join(part for part in (f"refused: {refused}" if refused else "", _figures(sample.get("on"))) if part)
    if "auc" in sample:
        low, high = sample["interval"]
        on = f"AUC {sample['auc']:.2f} ({low:.2f} to {high:.2f})"
    if "rounds" in sample:
        on += f"; {sample['rounds']} rounds"
    cells = (ATTACKS[sample["attack"]], _figures(sample.get("off")), on, _neighbour(sample))
    return f"| {' | '.join(cells)} |\n"


def _figures(found: Any) -> str:
    if isinstance(found, Mapping) and "error" in found:
        return f"off by {found['error']:.0e} of 1, {found['tries']} tries"
    if isinstance(found, Mapping):
        return (
            f"r {found['correlation']:.2f}, best {found['best_correlation']:.2f}, SSIM {found['ssim']:.2f}, "
            f"{found['tries']} tries"
        )
    return str(found or "")


def _neighbour(sample: Mapping[str, Any]) -> str:
    """Of the frames that were shown most of; of refused requests there are none."""
    for found in (sample.get("on"), sample.get("off")):
        if isinstance(found, Mapping) and found.get("neighbour_correlation"):
            return f"r {found['neighbour_correlation']:.2f}, SSIM {found['neighbour_ssim']:.2f}"
    return ""


def main() -> None:
    samples = [json.loads(line) for name in sys.argv[1:] for line in Path(name).read_text().splitlines()]
    PAGE.write_text(put_in(PAGE.read_text(), table(samples)))
    print(f"{PAGE.relative_to(ROOT)}: {len(samples)} samples")


if __name__ == "__main__":
    main()

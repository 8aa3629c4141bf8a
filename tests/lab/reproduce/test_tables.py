"""Results by hand as tables: every figure finds its cell."""

from roiae_lab.reproduce.claims import CLAIMS, decimals
from roiae_lab.reproduce.estimates import Spread
from roiae_lab.reproduce.tables import Results, Table, all_tables, cell
from roiae_lab.reproduce.verdicts import judge
from tests.lab.reproduce.conftest import MakeResult, scores


def tables_of(results: Results) -> dict[str, Table]:
    return {
        table.title: table
        for of in all_tables(results, [judge(claim, results) for claim in CLAIMS]).values()
        for table in of
    }


def test_a_cell_has_the_mean_and_the_spread() -> None:
    assert cell(Spread(1.234, 0.056), decimals(".2f")) == "1.23 ± 0.06"


def test_one_seed_has_no_spread_and_a_missing_figure_no_number() -> None:
    assert cell(Spread(1.234, None), decimals(".2f")) == "1.23 ± –"
    assert cell(None, decimals(".2f")) == "–"


def test_the_papers_rows_stand_beside_its_numbers(make_result: MakeResult) -> None:
    results = {"c": [make_result(phase1=scores(), control=scores(), method=scores(psnr=20.3, roi_mae=0.08))]}

    rows = tables_of(results)["The paper's claims, by held-out hospital"].rows

    assert rows[0] == ["PSNR dB against phase 1, validation", "+0.27", "+0.30 ± –", "held"]
    assert rows[3] == ["ROI MAE % against phase 1, held out", "−6.43", "−20.00 ± –", ""]


def test_every_model_has_a_row_and_those_of_another_roi_the_last(make_result: MakeResult) -> None:
    read = scores() | {"nt_frames": 40.0, "nt_px": 1.5}
    models = {"phase1": read, "other-roi/phase1": scores(), "control": scores(), "method": scores()}

    tables = tables_of({"c": [make_result(**models)]})

    rows = tables["c held out: 50 held-out frames"].rows
    assert [row[0] for row in rows] == ["phase1", "control", "method", "other-roi/phase1"]
    assert rows[0][1:] == ["20.00 ± –", "0.5000 ± –", "0.1000 ± –", "0.2000 ± –", "1.50 ± –", "40 ± –", "100"]
    assert rows[1][5:7] == ["–", "–"]
    assert "c held out: 40 validation frames" in tables


def test_each_hospital_is_compared_on_its_own_frames(make_result: MakeResult) -> None:
    own = {"a": scores(psnr=18.0), "b": scores(psnr=15.0), "c": scores(psnr=14.0)}
    models = {"phase1": scores(), "control": scores(), "method": scores(), "alone/a": own}

    tables = tables_of({"c": [make_result(**models)]})

    rows = tables["What federation gives each hospital, on its own validation frames"].rows
    assert [row[:4] for row in rows] == [
        ["a", "c", "alone", "18.00 ± –"],
        ["a", "c", "federated", "20.00 ± –"],
        ["b", "c", "federated", "20.00 ± –"],
    ]


def test_markdown_has_a_line_a_row() -> None:
    assert Table("Title", ["", "x"], [["a", "1"]]).to_markdown() == "## Title\n\n|  | x |\n| --- | --- |\n| a | 1 |\n"

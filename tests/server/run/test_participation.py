import json

from roiae.config import Role
from roiae_server.run.participation import participation


def line(site: str, status: str, reason: str | None = None) -> str:
    return json.dumps({"site": site, "status": status, "reason": reason})


def test_requests_are_counted_by_what_became_of_them() -> None:
    lines = [
        line("a", "aggregated"),
        line("a", "refused", "not-finite"),
        line("a", "missing", "offline"),
        line("a", "missing", "offline"),
        line("a", "discarded"),
        line("stranger", "refused", "not-asked"),
    ]

    table = participation({"a": Role.SOURCE, "b": Role.HELD_OUT}, lines)

    assert (table["a"].asked, table["a"].replied, table["a"].aggregated) == (5, 3, 1)
    assert table["a"].not_counted == {"not-finite": 1, "offline": 2, "discarded": 1}
    assert table["b"].to_json() == {"role": "held-out", "asked": 0, "replied": 0, "aggregated": 0, "not_counted": {}}
    assert list(table) == ["a", "b"]

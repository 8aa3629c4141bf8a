"""Settings written out for a person to read and change: every key under a comment that says what it does."""

import json
from collections.abc import Mapping
from typing import Any


def commented_yaml(head: str, settings: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    """YAML of nested settings.

    Args:
        head: lines above the first setting, without `#`.
        settings: JSON values; written as JSON, which YAML reads as it is.
        descriptions: by dotted key.
    """
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    return "\n".join([*lines, "", *_lines(settings, descriptions, "")]) + "\n"


def _lines(settings: Mapping[str, Any], descriptions: Mapping[str, str], prefix: str) -> list[str]:
    indent = "  " * prefix.count(".")
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += ["", f"{indent}{name}:", *_lines(value, descriptions, f"{prefix}{name}.")]
        else:
            lines += [
                f"{indent}# {descriptions[prefix + name]}",
                f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}",
            ]
    return lines

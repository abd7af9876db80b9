"""YAML as the files of the pack are written, for people to go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from detection_pack.model.placeholders import MARKER


class _Dumper(yaml.SafeDumper):
    """YAML as the pack's files are written: lists indented, long texts as blocks, no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Block(str):
    """A text of several lines."""


class Day(str):
    """A date, which needs no quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Prose holds apostrophes more often than backslashes; a line break in single quotes is hard to read.
    style = '"' if text.startswith(f"{MARKER}: ") or "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Block, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", text, style="|"))
_Dumper.add_representer(Day, lambda d, text: d.represent_scalar("tag:yaml.org,2002:timestamp", text))


def yaml_of(data: Any, flow: bool | None = False) -> str:
    """A YAML document in the order of ``data``; with ``flow`` None a mapping of plain values is one line."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=flow
    )


def events_of(
    name: str, defaults: Mapping[str, Any], cases: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """An events file: the defaults a line each, a case's records a line each where they are flat."""
    parts = [yaml_of({"rule": name}), yaml_of({"defaults": dict(defaults)})]
    parts += [yaml_of({side: list(listed)}, flow=None) for side, listed in cases.items()]
    return "\n".join(parts)

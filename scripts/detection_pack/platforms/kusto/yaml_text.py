"""YAML as the Azure-Sentinel repository writes it: keys in their order, text of several lines as a block."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, as in the Azure-Sentinel repository; libyaml cannot do that."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


# libyaml is part of every published wheel of PyYAML, but not of every build of it.
class _FastDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """For what has no list in it: ten times as fast."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


for _dumper in (_Dumper, _FastDumper):
    _dumper.add_representer(str, _text)


def yaml_text(document: Mapping[str, Any]) -> str:
    """The document, its keys in their order."""
    runs = itertools.groupby(document.items(), key=lambda item: isinstance(item[1], list))
    return "".join(
        _lists(json.dumps(dict(items))) if has_lists else _dumped(dict(items), _FastDumper)
        for has_lists, items in runs
    )


@cache
def _lists(dumped_as_json: str) -> str:
    """A mapping with lists in it as YAML. Rules share most of theirs."""
    return _dumped(json.loads(dumped_as_json), _Dumper)


def _dumped(document: Mapping[str, Any], dumper: Any) -> str:
    text = yaml.dump(dict(document), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return str(text)

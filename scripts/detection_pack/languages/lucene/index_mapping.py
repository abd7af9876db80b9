"""The mapping of an index, as the create-index API takes it: which type each field has.

Source: Elasticsearch, "Mapping", "Field data types", "Dynamic mapping", "Dynamic templates". What is not
modelled is refused when the mapping is read, so that no field is searched with another meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

#: Types whose values are kept whole, as text.
TEXTUAL = ("keyword", "wildcard")
INTEGERS = {"long": 63, "integer": 31, "short": 15, "byte": 7}
REALS = ("double", "float")
ANALYSED = ("text", "match_only_text")
TYPES = (*TEXTUAL, *INTEGERS, *REALS, *ANALYSED, "ip", "date", "boolean", "flattened")

#: The patterns of a ``pattern`` analyzer that are modelled: a word is a run of ASCII letters, digits, ``_``
#: and the characters that the pattern leaves out of what separates words.
_SEPARATORS = re.compile(r"\\W\+|\[\\W&&\[\^([-.:$@#/]*)\]\]\+")

_PARAMETERS = {
    "analyzer",
    "type",
    "ignore_above",
    "normalizer",
    "ignore_malformed",
    "fields",
    "properties",
    "index",
    "doc_values",
    "norms",
    "meta",
}


class UnsupportedMapping(ValueError):
    """A mapping that is not modelled, or none at all; the message names the field."""


@dataclass(frozen=True)
class FieldType:
    """How a field is indexed. ``ignore_above`` counts UTF-16 code units; None is without limit.

    ``lowercase``: whether the normalizer folds letter case. ``ignore_malformed``: whether a value that is not
    of the type is left out, instead of the whole document. ``word``: of analysed text, the expression (RE2)
    of the words that are kept, in lower case; None where the analyzer is not modelled.
    """

    name: str
    ignore_above: int | None = None
    lowercase: bool = False
    ignore_malformed: bool = False
    word: str | None = None


@dataclass(frozen=True)
class IndexMapping:
    """``fields`` by dotted path; ``copies`` from a multi-field (``process.name.text``) to its parent;
    ``objects``: paths that hold fields. ``text`` is the type of strings without a mapping, None where a
    dynamic template is missing. ``dynamic``: whether fields without a mapping are indexed."""

    fields: Mapping[str, FieldType]
    copies: Mapping[str, str]
    objects: frozenset[str]
    dynamic: bool
    text: FieldType | None
    ignore_malformed: bool

    def below_flattened(self, path: str) -> str | None:
        """The flattened field that ``path`` is a key of."""
        parents = prefixes(path)
        return next((p for p in parents if p in self.fields and self.fields[p].name == "flattened"), None)


def prefixes(path: str) -> list[str]:
    """``a`` and ``a.b`` of ``a.b.c``."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def read_mapping(body: Mapping[str, Any]) -> IndexMapping:
    """``{"settings": …, "mappings": …}`` as sent to create an index. Raises `UnsupportedMapping`."""
    settings = _settings(body.get("settings") or {})
    mappings = body.get("mappings") or {}
    unknown = set(mappings) - {"properties", "dynamic", "dynamic_templates", "date_detection"}
    if unknown:
        raise UnsupportedMapping(f"mappings: {', '.join(sorted(unknown))} is not modelled")
    reader = _Reader(settings)
    reader.properties("", mappings.get("properties") or {})
    dynamic = mappings.get("dynamic", True)
    if dynamic not in (True, False, "true", "false"):
        raise UnsupportedMapping(f'mappings: dynamic "{dynamic}" is not modelled')
    template = reader.template(mappings.get("dynamic_templates") or [])
    if template is not None and mappings.get("date_detection", True) is not False:
        raise UnsupportedMapping("mappings: the detection of dates in text is not modelled; turn it off")
    return IndexMapping(
        reader.fields,
        reader.copies,
        frozenset(reader.objects),
        dynamic in (True, "true"),
        template,
        reader.ignore_malformed,
    )


class _Reader:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.fields: dict[str, FieldType] = {}
        self.copies: dict[str, str] = {}
        self.objects: set[str] = set()
        self.ignore_malformed = str(settings.get("mapping.ignore_malformed", False)).lower() == "true"
        self._normalizers = {"lowercase": ["lowercase"]}
        for key, value in settings.items():
            name, _, parameter = key.removeprefix("analysis.normalizer.").partition(".")
            if key.startswith("analysis.normalizer.") and parameter == "filter":
                self._normalizers[name] = [value] if isinstance(value, str) else list(value)
        self._analyzers: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            name, _, parameter = key.removeprefix("analysis.analyzer.").partition(".")
            if key.startswith("analysis.analyzer.") and parameter:
                self._analyzers.setdefault(name, {})[parameter] = value

    def properties(self, parent: str, given: Mapping[str, Any]) -> None:
        for name, stated in given.items():
            path = f"{parent}.{name}" if parent else name
            self.objects |= set(prefixes(path))
            if stated.get("type", "object") == "object":
                self.objects.add(path)
                unknown = set(stated) - {"type", "properties"}
                if unknown:
                    raise UnsupportedMapping(f"{path}: {', '.join(sorted(unknown))} is not modelled")
                self.properties(path, stated.get("properties") or {})
                continue
            self.fields[path] = self.field(path, stated)
            for below, copy in (stated.get("fields") or {}).items():
                self.fields[f"{path}.{below}"] = self.field(f"{path}.{below}", copy)
                self.copies[f"{path}.{below}"] = path

    def field(self, path: str, stated: Mapping[str, Any]) -> FieldType:
        kind = stated.get("type")
        if kind not in TYPES:
            raise UnsupportedMapping(f'{path}: type "{kind}" is not modelled')
        unknown = set(stated) - _PARAMETERS
        if unknown:
            raise UnsupportedMapping(f"{path}: {', '.join(sorted(unknown))} is not modelled")
        if stated.get("index", True) is not True or stated.get("doc_values", True) is not True:
            raise UnsupportedMapping(f"{path}: a field that is not indexed is not modelled")
        found = FieldType(kind, stated.get("ignore_above"), False, self.ignore_malformed)
        if "ignore_malformed" in stated:
            found = replace(found, ignore_malformed=str(stated["ignore_malformed"]).lower() == "true")
        if "normalizer" in stated:
            filters = self._normalizers.get(stated["normalizer"])
            if filters != ["lowercase"] or kind != "keyword":
                raise UnsupportedMapping(f'{path}: normalizer "{stated["normalizer"]}" is not modelled')
            found = replace(found, lowercase=True)
        if "analyzer" in stated:
            found = replace(found, word=self._word(path, kind, str(stated["analyzer"])))
        return found

    def _word(self, path: str, kind: str, name: str) -> str:
        """The words of an analyzer (Elasticsearch, "Pattern analyzer"), in lower case, of any length."""
        about = self._analyzers.get(name, {})
        separators = _SEPARATORS.fullmatch(str(about.get("pattern", r"\W+")))
        if about.get("type") != "pattern" or set(about) - {"type", "pattern"} or separators is None:
            raise UnsupportedMapping(f'{path}: analyzer "{name}" is not modelled')
        if kind != "text":
            raise UnsupportedMapping(f'{path}: an analyzer of a field of type "{kind}" is not modelled')
        return f"[A-Za-z0-9_{re.escape(separators[1] or '')}]+"

    def template(self, templates: list[Mapping[str, Any]]) -> FieldType | None:
        """The dynamic template for strings; the only kind that is modelled."""
        found = None
        for named in templates:
            for name, stated in named.items():
                if set(stated) != {"match_mapping_type", "mapping"} or (
                    stated["match_mapping_type"] != "string" or found is not None
                ):
                    raise UnsupportedMapping(f'dynamic template "{name}" is not modelled')
                found = self.field(f'dynamic template "{name}"', stated["mapping"])
        return found


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings flat, by name without ``index.``."""
    return {key.removeprefix("index."): value for key, value in _flat("", given)}


def _flat(prefix: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value

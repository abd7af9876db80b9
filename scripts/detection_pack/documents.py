"""YAML files with the line of every value, read so that a hostile file cannot hurt.

Rules come from strangers. The loader builds plain data only (no tags that construct objects), refuses
duplicate keys, and refuses aliases altogether: an alias is what lets a few lines expand into gigabytes,
and no Sigma rule needs one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from detection_pack.findings import PackError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # pragma: no cover - libyaml is part of every published wheel
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 60

Key = str | int


class _PlainLoader(SafeLoader):
    """Safe scalars, without YAML 1.1's dates (they stay the text that was written), sets and binaries."""


def _no_tag(loader: Any, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)


for _tag in ("set", "binary", "omap", "pairs", "timestamp"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _no_tag)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Document:
    """One YAML document: ``data`` as plain Python values, ``lines`` from key path to line (from 1)."""

    path: Path
    data: Any
    lines: dict[tuple[Key, ...], int] = field(repr=False, hash=False, compare=False)

    def line(self, *keys: Key) -> int:
        """The line of the value under ``keys``, or of its nearest ancestor that the file has."""
        for end in range(len(keys), -1, -1):
            if (found := self.lines.get(keys[:end])) is not None:
                return found
        return 1

    def line_of(self, text: str) -> int:
        """The line of the first key or scalar value that is ``text``; the document's own if none is.

        What a detection says comes first: a field may have the name of one of Sigma's own keys.
        """
        return self._said.get(text, self.line())

    @cached_property
    def _said(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for path, line in sorted(self.lines.items(), key=lambda item: item[0][:1] != ("detection",)):
            if path:
                found.setdefault(str(path[-1]).split("|")[0], line)
                if (scalar := self._scalar(path)) is not None:
                    found.setdefault(scalar, line)
        return found

    def _scalar(self, path: tuple[Key, ...]) -> str | None:
        value = self.data
        for key in path:
            value = value[key]
        return None if isinstance(value, dict | list) else str(value)


def read_text(path: Path) -> str:
    """A UTF-8 file of reasonable size; `PackError` otherwise."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PackError.at(
            path, 1, f"cannot be read ({error.strerror})", "check the path and its permissions"
        ) from error
    if len(raw) > MAX_BYTES:
        raise PackError.at(
            path, 1, f"is larger than {MAX_BYTES} bytes", "split the file or shorten its values"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PackError.at(path, line, "is not UTF-8", "save the file as UTF-8") from error


def load_documents(path: Path, text: str | None = None) -> list[Document]:
    """Every YAML document of a file, in order; an empty one is left out. Raises `PackError`."""
    text = read_text(path) if text is None else text
    loader = _PlainLoader(_checked_characters(path, text))
    documents = []
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node has said so
            lines: dict[tuple[Key, ...], int] = {}
            _index(path, node, (), lines, loader)
            data = loader.construct_document(node)
            if data is not None:
                documents.append(Document(path, data, lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PackError.at(
            path,
            min(mark.line, text.rstrip("\n").count("\n")) + 1 if mark else 1,
            f"YAML: {error.problem or error.context}",
            "correct the YAML",
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise PackError.at(path, 1, f"YAML: {error}", "correct the YAML") from error
    except RecursionError as error:
        raise PackError.at(path, 1, "YAML: nested too deeply", "flatten the document") from error
    finally:
        loader.dispose()
    return documents


def _checked_characters(path: Path, text: str) -> str:
    for number, line in enumerate(text.split("\n"), start=1):
        if "\0" in line:
            raise PackError.at(path, number, "holds a NUL character", "remove it")
    return text


def _index(
    path: Path, node: yaml.Node, keys: tuple[Key, ...], lines: dict[tuple[Key, ...], int], loader: Any
) -> None:
    """Record the line of every node; refuse aliases, duplicate keys and excessive depth."""
    seen: set[int] = set()
    stack: list[tuple[yaml.Node, tuple[Key, ...]]] = [(node, keys)]
    while stack:
        current, here = stack.pop()
        line = current.start_mark.line + 1
        if id(current) in seen:
            raise PackError.at(path, line, "uses a YAML alias", "write the value out where it is used")
        seen.add(id(current))
        if len(here) > MAX_DEPTH:
            raise PackError.at(path, line, "is nested too deeply", "flatten the document")
        lines.setdefault(here, line)
        stack.extend(reversed(list(_children(path, current, here, lines, loader))))


def _children(
    path: Path, node: yaml.Node, here: tuple[Key, ...], lines: dict[tuple[Key, ...], int], loader: Any
) -> Iterator[tuple[yaml.Node, tuple[Key, ...]]]:
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield child, (*here, index)
    elif isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise PackError.at(path, line, "has a key that is not plain text", "write the key as text")
            key = loader.construct_object(key_node)
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise PackError.at(path, line, f"has the key {key!r}", "quote it, or name the key")
            if str(key) in names:
                raise PackError.at(path, line, f'repeats the key "{key}"', "keep one of them")
            names.add(str(key))
            lines[(*here, key)] = line
            yield child, (*here, key)

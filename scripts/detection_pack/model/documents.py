"""YAML files with the line of every value, read so that a hostile file cannot hurt.

Rules come from strangers. The loader builds plain data only (no tags that construct objects), refuses
duplicate keys, and refuses aliases altogether: an alias is what lets a few lines expand into gigabytes,
and no Sigma rule needs one.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from detection_pack.model.findings import Finding, PackError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # pragma: no cover - libyaml is part of every published wheel
    from yaml import SafeLoader  # type: ignore[assignment]

#: Two seconds of parsing where every second byte is a value.
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 60
#: A correlation stands with the rules that it correlates; nothing needs more documents in one file.
MAX_DOCUMENTS = 100

#: What YAML does not allow but as an escape (YAML 1.2.2, "Character Set"), a byte order mark inside the text
#: among it; its parser gives no line for it.
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

Key = str | int


class _PlainLoader(SafeLoader):
    """Safe scalars, without YAML 1.1's dates (they stay the text that was written), sets and binaries.

    A plain scalar that a detection compares with must mean what is written. YAML 1.1 reads 12:30 as 750, 010
    as 8, 0x1f as 31, 1_000 as 1000, 1.10 as 1.1 and no as false: here a number is one only where writing it
    gives the same text again, in 15 characters at most, a truth value is true or false, and everything else
    stays text.
    """


def _number(kind: type[int] | type[float]) -> Any:
    def construct(loader: Any, node: yaml.Node) -> Any:
        text: str = loader.construct_scalar(node)
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            return text
        # Beyond 15 digits a platform that compares floating-point numbers takes a neighbour for the number.
        return value if str(value) == text and text[-1:].isdigit() and len(text) <= 15 else text

    return construct


def _truth(loader: Any, node: yaml.Node) -> Any:
    text: str = loader.construct_scalar(node)
    return {"true": True, "false": False}.get(text.lower(), text)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _number(int))
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _number(float))
_PlainLoader.add_constructor("tag:yaml.org,2002:bool", _truth)


def _no_tag(loader: Any, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)


for _tag in ("set", "binary", "omap", "pairs", "timestamp"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _no_tag)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}


#: What `value_at` gives where nothing stands.
ABSENT: Any = object()


def value_at(data: Any, keys: Iterable[Key]) -> Any:
    """What stands under a key path in plain data; `ABSENT` where nothing does."""
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return data


@dataclass(frozen=True)
class Document:
    """One YAML document: ``data`` as plain Python values, ``lines`` from key path to line (from 1).

    ``origins``: the files of the parts that were added out of other files, by the key path of each;
    ``condition``: what the file itself says, where they are part of the condition.
    """

    path: Path
    data: Any
    lines: dict[tuple[Key, ...], int] = field(repr=False, hash=False, compare=False)
    origins: Mapping[tuple[Key, ...], Path] = field(
        default_factory=dict, repr=False, hash=False, compare=False
    )
    condition: Any = field(default=None, repr=False, hash=False, compare=False)

    @property
    def as_written(self) -> Document:
        """The document as its file has it, without what was added to its detection."""
        if not self.origins:
            return self
        detection = self.data.get("detection") or {}
        kept = {key: value for key, value in detection.items() if ("detection", key) not in self.origins}
        if self.condition is not None and "condition" in kept:
            kept["condition"] = self.condition
        return replace(self, data={**self.data, "detection": kept}, origins={}, condition=None)

    def line(self, *keys: Key) -> int:
        """The line of the value under ``keys``, or of its nearest ancestor that the file has."""
        for end in range(len(keys), -1, -1):
            if (found := self.lines.get(keys[:end])) is not None:
                return found
        return 1

    def path_of(self, *keys: Key) -> Path:
        """The file in which the value under ``keys`` stands."""
        ends = range(len(keys), 0, -1) if self.origins else ()
        return next((self.origins[keys[:end]] for end in ends if keys[:end] in self.origins), self.path)

    def line_after(self, *keys: Key) -> int | None:
        """The line of the first value below that of ``keys`` that is not inside it; None where none is."""
        first = bisect_right(self._in_order, self.line(*keys), key=lambda item: item[0])
        later = (line for line, path in islice(self._in_order, first, None) if path[: len(keys)] != keys)
        return next(later, None)

    @cached_property
    def _in_order(self) -> list[tuple[int, tuple[Key, ...]]]:
        own = ((line, path) for path, line in self.lines.items() if self.path_of(*path) == self.path)
        return sorted(own, key=lambda item: item[0])

    def keys_of(self, text: str) -> tuple[Key, ...]:
        """The key path of the first key or scalar value that is ``text``; the empty one if none is.

        What a detection says comes first: a field may have the name of one of Sigma's own keys.
        """
        return self._said.get(text, ())

    @cached_property
    def _said(self) -> dict[str, tuple[Key, ...]]:
        found: dict[str, tuple[Key, ...]] = {}
        for path in sorted(self.lines, key=lambda keys: keys[:1] != ("detection",)):
            if path:
                found.setdefault(str(path[-1]).split("|")[0], path)
                if (scalar := self._scalar(path)) is not None:
                    found.setdefault(scalar, path)
        return found

    def scalars(self) -> Iterator[tuple[tuple[Key, ...], object]]:
        """Every value that is neither mapping nor list, by its key path, in the order of the file."""
        stack: list[tuple[tuple[Key, ...], Any]] = [((), self.data)]
        while stack:
            keys, value = stack.pop()
            if isinstance(value, dict | list):
                named = value.items() if isinstance(value, dict) else enumerate(value)
                stack += [((*keys, key), child) for key, child in reversed(list(named))]
            else:
                yield keys, value

    def _scalar(self, path: tuple[Key, ...]) -> str | None:
        value = self.data
        for key in path:
            value = value[key]
        return None if isinstance(value, dict | list) else str(value)


#: The id of every finding that this module makes.
YAML = "yaml"
ALIAS = "uses a YAML alias"


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A file of reasonable size; `PackError` otherwise.

    Nothing but a regular file is read, and no more of it than the limit: a pipe would never end, a device
    never be empty. What a link points to is not the stranger's to give: it could come out in an error or in
    an artefact.
    """
    if path.is_symlink():
        raise PackError.at(path, 1, "is a symbolic link", "put the file itself there", YAML)
    try:
        # Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise PackError.at(path, 1, "is not a regular file", "name a file with text in it", YAML)
            with os.fdopen(opened, "rb", closefd=False) as file:
                raw = file.read(max_bytes + 1)
        finally:
            os.close(opened)
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise PackError.at(path, 1, what, "check the path and its permissions", YAML) from error
    if len(raw) > max_bytes:
        what = f"is larger than {max_bytes} bytes"
        raise PackError.at(path, 1, what, "split the file or shorten its values", YAML)
    return raw


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """A UTF-8 file of reasonable size; `PackError` otherwise."""
    raw = read_bytes(path, max_bytes)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PackError.at(path, line, "is not UTF-8", "save the file as UTF-8", YAML) from error


def load_documents(
    path: Path, text: str | None = None, findings: list[Finding] | None = None
) -> list[Document]:
    """Every YAML document of a file, in order; an empty one is left out. Raises `PackError` with one fault.

    With ``findings`` every fault is reported there instead. A document with a repeated key is returned with
    the last of its values; one with any other fault is left out, and reading goes on after it.
    """
    text = read_text(path) if text is None else text
    collected: list[Finding] = [] if findings is None else findings
    if unfit := list(_unfit_characters(path, text)):
        collected += unfit
        documents = []
    else:
        documents = _read(path, text, collected, every_fault=findings is not None)
    if findings is None and collected:
        raise PackError(collected[:1])
    return documents


def _read(path: Path, text: str, findings: list[Finding], every_fault: bool) -> list[Document]:
    """What can be read; after a fault of syntax, reading starts again at the next document's ``---``."""
    documents: list[Document] = []
    start = 0
    # Each turn reads the rest of the file: a file of faults alone must not take the square of its length.
    for _ in range(MAX_DOCUMENTS if every_fault else 1):
        # Blank lines in place of what has been read keep the count.
        rest = "\n" * text.count("\n", 0, start) + text[start:]
        fault = _read_until_fault(path, rest, documents, findings)
        if fault is None:
            break
        findings.append(fault)
        following = _next_document(text, fault.line)
        if following is None:
            break
        start = following
    return documents


def _read_until_fault(
    path: Path, text: str, documents: list[Document], findings: list[Finding]
) -> Finding | None:
    loader = _PlainLoader(text)
    read = 0
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node has said so
            read += 1
            if read > MAX_DOCUMENTS:
                what = f"holds more than {MAX_DOCUMENTS} YAML documents"
                findings.append(_fault(path, node.start_mark.line + 1, what, "split the file"))
                return None
            lines: dict[tuple[Key, ...], int] = {}
            found = list(_index(path, node, lines, loader))
            if any(fault.what == ALIAS for fault, _ in found):
                found = [entry for entry in found if entry[0].what != ALIAS]
                found += _aliases(path, text, node)
            findings += (fault for fault, _ in found)
            if any(fatal for _, fatal in found):
                continue
            data = loader.construct_document(node)
            if data is not None:
                documents.append(Document(path, data, lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.rstrip("\n").count("\n")) + 1 if mark else 1
        return _fault(path, line, f"YAML: {error.problem or error.context}", "correct the YAML")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return _fault(path, 1, f"YAML: {error}", "correct the YAML")
    except RecursionError:
        return _fault(path, 1, "YAML: nested too deeply", "flatten the document")
    finally:
        loader.dispose()
    return None


def _unfit_characters(path: Path, text: str) -> Iterator[Finding]:
    """The lines with a character that no YAML file may hold."""
    if _NOT_YAML.search(text) is None:
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if found := _NOT_YAML.search(line):
            shown = "a NUL character" if found[0] == "\0" else f"the character U+{ord(found[0]):04X}"
            yield _fault(path, number, f"holds {shown}", "remove it, or write its escape in double quotes")


def _next_document(text: str, line: int) -> int | None:
    """Where the first document after ``line`` starts."""
    at = 0
    for number, content in enumerate(text.split("\n"), start=1):
        if number > line and (content == "---" or content.startswith("--- ")):
            return at
        at += len(content) + 1
    return None


def _fault(path: Path, line: int, what: str, todo: str) -> Finding:
    return Finding(str(path), line, what, todo, YAML)


def _index(
    path: Path, root: yaml.Node, lines: dict[tuple[Key, ...], int], loader: Any
) -> Iterator[tuple[Finding, bool]]:
    """Record the line of every node; give aliases, repeated keys and excessive depth, and whether each keeps
    the document from being read."""
    seen: set[int] = set()
    stack: list[tuple[yaml.Node, tuple[Key, ...]]] = [(root, ())]
    while stack:
        current, here = stack.pop()
        line = current.start_mark.line + 1
        if id(current) in seen:
            yield _fault(path, line, ALIAS, "write the value out where it is used"), True
            continue
        seen.add(id(current))
        if len(here) > MAX_DEPTH:
            yield _fault(path, line, "is nested too deeply", "flatten the document"), True
            return
        lines.setdefault(here, line)
        children: list[tuple[yaml.Node, tuple[Key, ...]]] = []
        if isinstance(current, yaml.SequenceNode):
            children = [(child, (*here, index)) for index, child in enumerate(current.value)]
        elif isinstance(current, yaml.MappingNode):
            for key_node, child in current.value:
                key, faults = _key(path, key_node, here, lines, loader)
                yield from faults
                if key is not None:
                    lines[(*here, key)] = key_node.start_mark.line + 1
                    children.append((child, (*here, key)))
        stack.extend(reversed(children))


def _aliases(path: Path, text: str, root: yaml.Node) -> list[tuple[Finding, bool]]:
    """Every alias of a document, where it is used: its node only knows where it is made."""
    events: Iterator[Any] = yaml.parse(text, _PlainLoader)
    marks = [event.start_mark for event in events if isinstance(event, yaml.AliasEvent)]
    lines = [mark.line for mark in marks if mark is not None]
    todo = "write the value out where it is used"
    assert root.start_mark is not None and root.end_mark is not None  # every composed node has them
    first, last = root.start_mark.line, root.end_mark.line
    within = (n for n in lines if first <= n <= last)
    return [(_fault(path, n + 1, ALIAS, todo), True) for n in within]


def _key(
    path: Path, node: yaml.Node, here: tuple[Key, ...], lines: dict[tuple[Key, ...], int], loader: Any
) -> tuple[Key | None, list[tuple[Finding, bool]]]:
    """A mapping's key, and what is wrong with it."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        return None, [(_fault(path, line, "has a key that is not plain text", "write the key as text"), True)]
    key = loader.construct_object(node)
    if isinstance(key, bool) or not isinstance(key, str | int):
        return None, [(_fault(path, line, f"has the key {key!r}", "quote it, or name the key"), True)]
    if (*here, key) in lines or any((*here, other) in lines for other in _spelt(key)):
        return key, [(_fault(path, line, f'repeats the key "{key}"', "keep one of them"), False)]
    return key, []


def _spelt(key: Key) -> list[Key]:
    """The same key as the other type: `1` and `"1"` look alike to a reviewer."""
    if isinstance(key, int):
        return [str(key)]
    return [int(key)] if key.isascii() and key.isdigit() and len(key) < 10 else []

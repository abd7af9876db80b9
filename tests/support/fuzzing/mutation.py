"""Ways to spoil a file: at the level of its bytes, of its lines, and of the tree that it spells.

Everything is drawn from the `random.Random` that is handed in, so that an input is a function of its number.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml
from sigma.modifiers import modifier_mapping

#: Keys and indices from the root of a tree to one of its nodes.
Place = tuple[Any, ...]

#: Text that means something to one of the languages on the way: YAML, Sigma, KQL, SPL, Lucene, ES|QL, conf
#: files, JSON templates, shells, paths, regular expressions; then what is no plain character.
TOKENS: tuple[str, ...] = (
    *Path(__file__).with_name("tokens.txt").read_text(encoding="utf-8").split(),
    "\x00",
    "\t",
    "\r",
    "\r\n",
    "\n\n",
    "\x1b[31m",
    "\x7f",
    "\u0085",
    "\u00a0",
    "\u00ad",
    "\u200b",
    "\u2028",
    "\u202e",
    "\u0130",
    "\u0131",
    "\ufb03",
    "\u1e9e",
    "e\u0301",
    "\ufeff",
    "\uffff",
    "\U0001f600",
    "\U0010ffff",
    "\ud800",
    " ",
    "",
)

#: Values of every type that YAML or JSON can hold, and that somebody's code may not have expected.
ODD_VALUES: tuple[Callable[[Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: rng.choice([0, -1, 1, 50, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40]),
    lambda rng: rng.choice([0.5, -0.0, 1e308, math.inf, -math.inf, math.nan]),
    lambda rng: rng.choice(TOKENS),
    lambda rng: " ".join(rng.choice(TOKENS) for _ in range(rng.randint(2, 6))),
    lambda rng: (
        rng.choice(["a", "*", "?", "\\", "'", '"', "x y", "é", "\u0130"]) * rng.choice([1, 3, 300, 20_000])
    ),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [rng.choice(TOKENS) for _ in range(rng.choice([1, 2, 30]))],
    lambda rng: {rng.choice(TOKENS): rng.choice(TOKENS)},
    lambda rng: [None, 1, "a", [], {"a": 1}],
    lambda rng: [str(n) for n in range(rng.choice([100, 3000]))],
    lambda rng: nested(rng, rng.choice([5, 40, 200])),
)


def nested(rng: Random, depth: int) -> Any:
    """Lists and mappings in each other."""
    value: Any = rng.choice(TOKENS)
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def odd_value(rng: Random) -> Any:
    return rng.choice(ODD_VALUES)(rng)


# ---- trees ---------------------------------------------------------------------------------------------


def places(tree: Any, here: Place = ()) -> Iterator[Place]:
    """The path of every node of plain data, the root's own first."""
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*here, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, (*here, index))


def at(tree: Any, path: Place) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def spoil_tree(rng: Random, tree: Any, donors: list[Any]) -> Any:
    """One change of one node. The tree is changed in place where it can be; the result is what counts.

    Most changes are in what a rule detects: what its other keys hold is looked at once, in one place.
    """
    listed = list(places(tree))
    path = rng.choice(listed)
    if rng.random() < 0.6 and (
        deep := [p for p in listed if len(p) > 1 and p[0] in ("detection", "correlation")]
    ):
        path = rng.choice(deep)
    if not path:
        path = rng.choice(listed)
    if not path:
        return rng.choice([odd_value(rng), [tree], {"a": tree}]) if rng.random() < 0.3 else tree
    parent, key = at(tree, path[:-1]), path[-1]
    value = parent[key]
    what = rng.randrange(12)
    if what <= 2:
        parent[key] = spoil_scalar(rng, value)
    elif what == 3:
        parent[key] = odd_value(rng)
    elif what == 4:
        del parent[key]
    elif what == 5:
        parent[key] = [value] if rng.random() < 0.5 else {rng.choice(TOKENS): value}
    elif what == 6:
        donor = rng.choice(donors)
        parent[key] = copy.deepcopy(at(donor, rng.choice(list(places(donor)))))
    elif what == 7 and isinstance(parent, list):
        parent.insert(key, value)
    elif what == 8 and isinstance(parent, list):
        rng.shuffle(parent)
    elif isinstance(parent, dict):
        rename_key(rng, parent, key)
    else:
        parent[key] = spoil_scalar(rng, value)
    return tree


def spoil_scalar(rng: Random, value: Any) -> Any:
    """A value much like the one it was."""
    if isinstance(value, bool):
        return rng.choice([not value, str(value), int(value)])
    if isinstance(value, int | float):
        return rng.choice([-value, value + 1, str(value), float(value), value * 10**12])
    if isinstance(value, str):
        return spoil_text(rng, value)
    return odd_value(rng)


def spoil_text(rng: Random, text: str) -> str:
    at_ = rng.randint(0, len(text))
    token = rng.choice(TOKENS)
    what = rng.randrange(7)
    if what == 0:
        return text[:at_] + token + text[at_:]
    if what == 1:
        return token + text + token
    if what == 2:
        words = text.split(" ")
        words[rng.randrange(len(words))] = token
        return " ".join(words)
    if what == 3:
        return text[:at_]
    if what == 4:
        return rng.choice([text.upper(), text.swapcase(), text[::-1]])
    if what == 5:
        return (
            text[:at_] + rng.choice("*?\\\"'`|$%{}[]()<>&;:/.,=~^!@#\n\t -") * rng.randint(1, 3) + text[at_:]
        )
    return text * rng.choice([2, 50])


def rename_key(rng: Random, parent: dict[Any, Any], key: Any) -> None:
    """Another key for a value, in the same place of the mapping."""
    plain = str(key).split("|")[0]
    modifiers = sorted(modifier_mapping)
    new: Any = rng.choice(
        [
            f"{key}|{rng.choice(modifiers)}",
            f"{plain}|{rng.choice(modifiers)}",
            f"{plain}|{rng.choice(modifiers)}|{rng.choice(modifiers)}",
            plain,
            rng.choice(TOKENS),
            spoil_text(rng, str(key)),
            rng.choice([1, True, None, 1.5, "null"]),
            str(parent[key]),
        ]
    )
    entries = [(new if name == key else name, value) for name, value in parent.items()]
    parent.clear()
    parent.update(entries)


# ---- text and bytes ------------------------------------------------------------------------------------


def spoil_bytes(rng: Random, data: bytes, donors: list[bytes]) -> bytes:
    """One change of the bytes or lines of a file."""
    change = rng.choice(_ON_LINES if rng.random() < 0.5 else _ON_BYTES)
    return change(rng, data, donors)


def _span(rng: Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(1, longest))


def _flip(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    if not data:
        return b"\x80"
    index = rng.randrange(len(data))
    return data[:index] + bytes([data[index] ^ (1 << rng.randrange(8))]) + data[index + 1 :]


def _insert(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    index = rng.randint(0, len(data))
    return data[:index] + rng.randbytes(rng.randint(1, 4)) + data[index:]


def _insert_token(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    index = rng.randint(0, len(data))
    return data[:index] + _encoded(rng.choice(TOKENS)) + data[index:]


def _delete(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice([1, 2, 200]) + data[end:]


def _splice(rng: Random, data: bytes, donors: list[bytes]) -> bytes:
    donor = rng.choice(donors)
    start, end = _span(rng, donor, 400)
    index = rng.randint(0, len(data))
    return data[:index] + donor[start:end] + data[index + rng.choice([0, end - start]) :]


def _truncate(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _recode(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    text = data.decode("utf-8", "replace")
    kind = rng.randrange(5)
    if kind == 0:
        return text.encode("utf-16")
    if kind == 1:
        return text.encode("latin-1", "replace")
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    if kind == 3:
        return data.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\xe2\x80\xa8"]))
    return data.replace(b"  ", b"\t", rng.randint(1, 5))


def _deep(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    index = rng.randint(0, len(data))
    opening, closing = rng.choice(
        [(b"[", b"]"), (b'{"a":', b"}"), (b"{a: ", b"}"), (b"(", b")"), (b"- ", b"")]
    )
    depth = rng.choice([10, 70, 1000, 20_000])
    middle = b"1" if rng.random() < 0.5 else b""
    tail = closing * depth if rng.random() < 0.7 else b""
    return data[:index] + opening * depth + middle + tail + data[index:]


def _lines(
    rng: Random, data: bytes, donors: list[bytes], edit: Callable[[Random, list[bytes], int], None]
) -> bytes:
    lines = data.split(b"\n")
    edit(rng, lines, rng.randrange(len(lines)))
    return b"\n".join(lines)


def _line_again(rng: Random, lines: list[bytes], n: int) -> None:
    lines.insert(rng.randint(0, len(lines)), lines[n])


def _line_gone(rng: Random, lines: list[bytes], n: int) -> None:
    del lines[n : n + rng.choice([1, 1, 3])]


def _line_indented(rng: Random, lines: list[bytes], n: int) -> None:
    shift = rng.choice([b" ", b"  ", b"\t", b"    "])
    lines[n] = shift + lines[n] if rng.random() < 0.5 else lines[n].removeprefix(shift)


def _line_value(rng: Random, lines: list[bytes], n: int) -> None:
    head, colon, _ = lines[n].partition(b": ")
    lines[n] = head + (colon or b": ") + _encoded(str(rng.choice(TOKENS)))


def _line_key(rng: Random, lines: list[bytes], n: int) -> None:
    _, colon, tail = lines[n].partition(b":")
    indent = lines[n][: len(lines[n]) - len(lines[n].lstrip())]
    lines[n] = indent + _encoded(rng.choice(TOKENS)) + (colon or b":") + tail


def _line_word(rng: Random, lines: list[bytes], n: int) -> None:
    words = lines[n].split(b" ")
    words[rng.randrange(len(words))] = _encoded(rng.choice(TOKENS))
    lines[n] = b" ".join(words)


def _line_elsewhere(rng: Random, lines: list[bytes], n: int) -> None:
    other = rng.randrange(len(lines))
    lines[n], lines[other] = lines[other], lines[n]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


Change = Callable[[Random, bytes, list[bytes]], bytes]


def _on_lines(edit: Callable[[Random, list[bytes], int], None]) -> Change:
    return lambda rng, data, donors: _lines(rng, data, donors, edit)


_ON_BYTES: tuple[Change, ...] = (
    _flip,
    _insert,
    _insert_token,
    _delete,
    _repeat,
    _splice,
    _truncate,
    _recode,
    _deep,
)
_ON_LINES: tuple[Change, ...] = tuple(
    map(
        _on_lines,
        (_line_again, _line_gone, _line_indented, _line_value, _line_key, _line_word, _line_elsewhere),
    )
)


# ---- spelling ------------------------------------------------------------------------------------------


try:
    from yaml import CSafeDumper as FastDumper
except ImportError:  # pragma: no cover - libyaml is part of every published wheel
    from yaml import SafeDumper as FastDumper  # type: ignore[assignment]


class _Dumper(FastDumper):
    """Without anchors: aliases are refused at once, so a shared subtree is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(rng: Random, documents: list[Any]) -> bytes:
    """YAML documents, in block or flow style, escaped or not."""
    style: dict[str, Any] = {
        "sort_keys": False,
        "allow_unicode": rng.random() < 0.7,
        "default_flow_style": rng.choice([False, False, False, None, True]),
        "width": rng.choice([80, 10_000]),
    }
    try:
        return str(yaml.dump_all(documents, Dumper=_Dumper, **style)).encode()
    except UnicodeEncodeError:  # libyaml takes no half of a surrogate pair; PyYAML's own emitter escapes it
        return str(yaml.safe_dump_all(documents, **style)).encode("utf-8", "surrogatepass")


def as_json(rng: Random, value: Any) -> str:
    """JSON text, now and then with what a writer of JSON should not write: a key twice, NaN, half a pair."""
    text = json.dumps(_with_text_keys(value), ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1 and isinstance(value, dict):
        key = str(rng.choice(list(value) or ["a"]))
        text = f"{{{json.dumps(key)}: {json.dumps(rng.choice(TOKENS))}, {text[1:]}"
    if rng.random() < 0.05:
        number = rng.choice(
            ["9" * 5000, "1e400", "-0", "NaN", "Infinity", "0.1e-400", '"\\ud800"', '"\\u0000"']
        )
        text = text.replace(": ", f": {number}, {json.dumps(rng.choice(TOKENS))}: ", 1)
    return text


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _with_text_keys(v) for k, v in value.items()}
    return [_with_text_keys(v) for v in value] if isinstance(value, list) else value

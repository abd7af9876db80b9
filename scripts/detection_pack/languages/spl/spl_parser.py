"""SPL text to a tree, macros expanded, every fault with its place in the text as it was written."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from detection_pack.languages.conf import read_conf

#: How deep macros may call macros. Splunk allows 100 (limits.conf, max_macro_depth).
MAX_MACRO_DEPTH = 10


class UnsupportedSpl(Exception):
    """SPL that this engine does not execute exactly, and therefore not at all."""

    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.what, self.line, self.column = what, line, column
        super().__init__(f"unsupported SPL: {what}" + (f" at {line}:{column}" if line else ""))


class Source:
    """Expanded text, with the place in the original text of each of its characters."""

    def __init__(self, text: str) -> None:
        self.original = text
        self.text = text
        self.places = list(range(len(text)))

    def line_column(self, position: int) -> tuple[int, int]:
        """Line and column, from 1, of a position in the expanded text."""
        place = self.places[position] if position < len(self.places) else len(self.original)
        before = self.original[:place]
        return before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1

    def expand(self, macros: Mapping[str, str]) -> None:
        """Replace every macro; one may be any part of a search (Knowledge Management Manual, "Use search
        macros in searches")."""
        for _ in range(MAX_MACRO_DEPTH):
            calls = _macro_calls(self)
            if not calls:
                return
            for name, start in calls.items():
                if name not in macros:
                    raise UnsupportedSpl(f"the macro {name!r} is not defined", *self.line_column(start))
            for name in calls:
                self._replace_all(name, macros[name])
        if _macro_calls(self):
            raise UnsupportedSpl("macros are nested too deeply", *self.line_column(0))

    def _replace_all(self, name: str, definition: str) -> None:
        call = f"`{name}`"
        text, places, at = [], [], 0
        while (start := self.text.find(call, at)) >= 0:
            text += [self.text[at:start], definition]
            places += self.places[at:start] + [self.places[start]] * len(definition)
            at = start + len(call)
        self.text = "".join([*text, self.text[at:]])
        self.places = places + self.places[at:]


_LEXEMES = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|`', re.DOTALL)


def _macro_calls(source: Source) -> dict[str, int]:
    """The macros that are called, each with its first place. A backtick inside a string is refused: the pack
    never writes one, and it would mean that a value of a rule has come through unescaped."""
    calls: dict[str, int] = {}
    for match in _LEXEMES.finditer(source.text):
        if match[0].startswith('"'):
            if "`" in match[0]:
                raise UnsupportedSpl("a backtick in a string", *source.line_column(match.start()))
        elif len(match[0]) < 3:
            raise UnsupportedSpl("a backtick without a macro name", *source.line_column(match.start()))
        else:
            calls.setdefault(match[0][1:-1], match.start())
    return calls


@functools.cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("spl.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False)


@functools.lru_cache(maxsize=256)
def _tree(text: str) -> Tree[Token]:
    """The tree of a search without macros, which nobody changes: a schedule runs the same search again."""
    return _grammar().parse(text)


def parse(text: str, macros: Mapping[str, str]) -> tuple[Tree[Token], Source]:
    """The tree of an SPL search. Raises `UnsupportedSpl` with line and column."""
    source = Source(text)
    source.expand(macros)
    try:
        return _tree(source.text), source
    except UnexpectedEOF as error:
        raise UnsupportedSpl("the search ends too early", *source.line_column(len(source.text))) from error
    except (UnexpectedToken, UnexpectedCharacters) as error:
        position = error.pos_in_stream or 0
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            raise UnsupportedSpl(
                "the search ends too early", *source.line_column(len(source.text))
            ) from error
        word = re.match(r"\S{1,40}", source.text[position:])
        what = f"{word[0]!r}" if word else "the end of the search"
        raise UnsupportedSpl(what, *source.line_column(position)) from error
    except UnexpectedInput as error:  # pragma: no cover - lark has no other kind
        raise UnsupportedSpl(str(error)) from error


def macros_of(conf: str) -> dict[str, str]:
    """The definitions of a macros.conf that take no arguments."""
    return {
        name: settings["definition"] for name, settings in read_conf(conf).items() if "definition" in settings
    }


def string_value(token: str) -> str:
    r"""The text of a quoted string: ``\"`` and ``\\`` are escapes, and ``\t``, ``\n`` and ``\r`` characters.

    Any other backslash stays, as in the patterns of the Search Reference ("Types of expressions" in the
    Search Manual; `match` and `replace` in the Search Reference).
    """
    known = {'"': '"', "\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
    return re.sub(r"\\(.)", lambda m: known.get(m[1], m[0]), token[1:-1], flags=re.DOTALL)


def search_value(token: str) -> str:
    r"""The text of a comparison value of ``search``; only ``\"`` and ``\\`` are escapes there."""
    if not token.startswith('"'):
        return token
    return re.sub(r'\\(["\\])', r"\1", token[1:-1])

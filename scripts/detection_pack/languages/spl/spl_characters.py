r"""Characters in the expressions of SPL, so that PCRE reads them alike whatever it takes a text for.

Splunk has the PCRE library ("About Splunk regular expressions"), and documents nowhere whether it hands it
characters (PCRE2_UTF) or bytes. So nothing here depends on it: a character beyond ASCII is written as
itself, which is its bytes too, and a boundary or a wildcard has one alternative for characters and one for
bytes, each of which matches nothing in the other mode. What tells the modes apart (pcre2pattern(3),
pcre2unicode(3)):

- ``[^\x00-\xff]`` is no byte;
- after a whole character, no byte from 0x80 to 0xbf begins another;
- ``(?i)`` makes ``é`` (0xe9) of ``É`` (0xc9) between characters, and nothing of bytes: what matches
  ``(?i:[\xe0-\xfe])`` and not ``[\xe0-\xfe]`` is a character.

What is left: between characters, ``×`` or ``ß`` before one of U+0080 to U+00BF is read as two bytes, and a
superscript or fraction of Latin-1 after another character of Latin-1 is not seen before a term.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_PLAIN = re.compile(r"[A-Za-z0-9 _\-/:=,;@~!%&#'<>]")

#: Letters and digits beyond ASCII that are known by their bytes too; a range may hold unassigned code points,
#: and nothing else. Between characters ``\p`` knows them all; of bytes, every further range makes every
#: expression longer. So a letter of another script ends a word when PCRE reads bytes: more is found.
LETTERS: tuple[tuple[int, int], ...] = (
    *((c, c) for c in (0xAA, 0xB5, 0xBA)),
    *((0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE)),
    *((0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2BF)),  # Latin, IPA
    *(
        (0x386, 0x386),
        (0x388, 0x3F5),
        (0x3F7, 0x481),
        (0x48A, 0x559),
        (0x560, 0x588),
    ),  # Greek, Cyrillic, Armenian
    *((0x5D0, 0x5F2), (0x620, 0x64A), (0x660, 0x669), (0x671, 0x6D3)),  # Hebrew, Arabic
    # The scripts of India, nine blocks of one layout; Thai and Lao.
    *((block + 0x05, block + 0x39) for block in range(0x900, 0xD80, 0x80)),
    *((0xE01, 0xE30), (0xE81, 0xEB0)),
    *((0x1100, 0x135A), (0x1E00, 0x1F7F)),  # Hangul, Ethiopic, Latin (Vietnamese), Greek
    *((0x3041, 0x3096), (0x30A1, 0x30FA), (0x3100, 0x317F)),  # kana, Bopomofo, Hangul
    *((0x3400, 0x4DBF), (0x4E00, 0xA3FF), (0xAC00, 0xD7FF), (0x20000, 0x33FFF)),  # Han, Yi, Hangul, Han
)


def _byte_sequences(pairs: Iterable[tuple[int, int]]) -> dict[tuple[bytes, ...], None]:
    """The ranges as sequences of sets of bytes, each written as its sorted bytes."""
    last: dict[bytes, set[int]] = {}
    for low, high in pairs:
        for code in range(low, high + 1):
            if not 0xD800 <= code <= 0xDFFF:
                encoded = chr(code).encode()
                last.setdefault(encoded[:-1], set()).add(encoded[-1])
    # Join what ends alike, from the last byte to the first.
    found: dict[tuple[bytes, ...], list[bytes]] = {}
    for prefix, ends in sorted(last.items()):
        found.setdefault((bytes(sorted(ends)),), []).append(prefix)
    done: dict[tuple[bytes, ...], None] = {}
    while found:
        longer: dict[tuple[bytes, ...], list[bytes]] = {}
        for tail, prefixes in found.items():
            by_rest: dict[bytes, set[int]] = {}
            for prefix in prefixes:
                by_rest.setdefault(prefix[:-1], set()).add(prefix[-1])
            for rest, units in by_rest.items():
                key = (bytes(sorted(units)), *tail)
                if rest:
                    longer.setdefault(key, []).append(rest)
                else:
                    done[key] = None
        found = longer
    return done


def character_class(members: Iterable[str], negated: bool = False) -> str:
    """A class of characters, or bytes, below 256; they come in order."""
    runs: list[list[str]] = []
    for member in members:
        if runs and ord(member) == ord(runs[-1][1]) + 1:
            runs[-1][1] = member
        else:
            runs.append([member, member])
    shown = "".join(_member(a) + (f"-{_member(b)}" if b > a else "") for a, b in runs)
    return f"[{'^' if negated else ''}{shown}]"


def _member(c: str) -> str:
    return c if c.isascii() and c.isalnum() else f"\\x{ord(c):02x}"


def _byte_class(units: Sequence[int]) -> str:
    shown = character_class(map(chr, units))
    return shown[1:-1] if len(units) == 1 else shown


def _sequence(classes: Sequence[bytes]) -> str:
    shown = list(map(_byte_class, classes))
    if len(shown) > 2 and len(set(shown[-2:])) == 1:
        return "".join(shown[:-2]) + shown[-1] + "{2}"
    return "".join(shown)


#: Before the first byte of two, or of more: between characters it lets none pass, but for ``×`` and ``ß``.
_BYTES_2, _BYTES_3 = r"(?!(?i:[\xe2-\xfe]))", r"(?!(?i:[\xc0-\xd4]))"
#: A Latin capital or small letter of U+00C0 to U+00FE, between characters.
_LATIN = r"(?![\xe0-\xfe])(?i:[\xe0-\xfe])|(?![\xc0-\xde])(?i:[\xc0-\xde])"
#: Letters and digits of U+0080 to U+00BF, between characters.
_LOW = r"[\xaa\xb2\xb3\xb5\xb9\xba\xbc-\xbe]"


def _letters() -> Iterator[str]:
    """`LETTERS` by their bytes, those of one length in one group: a lookbehind wants it so."""
    sequences = sorted(_byte_sequences(LETTERS), key=lambda key: (len(key), key))
    for length, guard in ((2, _BYTES_2), (3, _BYTES_3), (4, _BYTES_3)):
        some = [_sequence(classes) for classes in sequences if len(classes) == length]
        yield guard + (some[0] if len(some) == 1 else f"(?:{'|'.join(some)})")


def _assertion(kind: str, alternatives: Iterable[str]) -> str:
    return f"(?-i:({kind}{'|'.join(alternatives)}))"


#: Made anew each time: it stands in what is built, and nothing that is kept may.
_LETTERS = list(_letters())
#: The boundary of a whole term: a term is a run of letters and digits.
TERM_START = _assertion(
    "?<!", ["[0-9A-Za-z]", rf"(?<![\x80-\xff]){_LOW}", *_LETTERS, r"(?![\x80-\xbf])[\p{L}\p{N}]"]
)
TERM_END = _assertion(
    "?!",
    [
        "[0-9A-Za-z]",
        _LOW,
        *_LETTERS,
        _LATIN,
        r"\xdf(?![\x80-\xbf])",
        r"\xff",
        r"(?![\x00-\xff])[\p{L}\p{N}]",
    ],
)
#: The ends of a term as version 1.1 wrote them, read as characters; a comparison of builds executes them.
FORMER_START, FORMER_END = r"(?<![\p{L}\p{N}])", r"(?![\p{L}\p{N}])"
#: Of bytes, a place within a character: a first byte and some of the others stand before it.
_WITHIN = (
    rf"(?<={_BYTES_2}[\xc2-\xdf]|{_BYTES_3}[\xe0-\xf4]|{_BYTES_3}[\xe0-\xf4][\x80-\xbf]"
    rf"|{_BYTES_3}[\xf0-\xf4][\x80-\xbf]{{2}})"
)
#: One character beyond ASCII; of bytes, a whole one, wherever a search or a repetition before it may stand.
BEYOND_ASCII = (
    rf"(?-i:(?!{_WITHIN})[\x80-\xbf]|[\xf7\xff]|{_BYTES_2}[\xc2-\xdf][\x80-\xbf]"
    rf"|{_BYTES_3}(?:[\xe0-\xef][\x80-\xbf]{{2}}|[\xf0-\xf4][\x80-\xbf]{{3}})"
    rf"|{_LATIN}|[\xd7\xdf](?![\x80-\xbf])|[^\x00-\xff])"
)
#: A condition: an ASCII character follows.
ASCII_FOLLOWS = r"(?=[\x00-\x7f])"
#: Any one character, a line break too.
ANY_CHARACTER = rf"(?:[\x00-\x7f]|{BEYOND_ASCII})"


def literal(text: str, cased: bool) -> str:
    r"""An expression of ``text`` alone: ASCII that has a meaning by its number, the rest as it is.

    Without regard to case it stands behind ``(?i)``, which between characters makes ``s`` of ``ſ`` and ``k``
    of the Kelvin sign, and between bytes knows ASCII alone: so the letters in question are listed.
    """
    return "".join(_literal_character(c, cased) for c in text)


def _literal_character(c: str, cased: bool) -> str:
    if c.isascii():
        if not cased and c in "kKsS":
            return f"(?-i:[{c.upper()}{c.lower()}])"
        if _PLAIN.match(c):
            return c
        return r"\." if c == "." else f"\\x{ord(c):02x}"
    forms = dict.fromkeys(f for f in (c, c.lower(), c.upper()) if len(f) == 1 and not f.isascii())
    folds = not cased and (c.lower(), c.upper()) != (c, c)
    return f"(?-i:{'|'.join(forms)})" if folds else c

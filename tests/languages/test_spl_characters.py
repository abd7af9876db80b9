"""The trap: an expression that says one thing of characters and another of their bytes.

It is documented nowhere whether Splunk's PCRE reads a text as characters or as bytes. A boundary is held
against KQL's ``has`` over every character of Unicode in both modes, and literals, wildcards and the
expressions of authors over random texts: PCRE in either mode and the product's model give one verdict.
"""

from __future__ import annotations

import re
import unicodedata

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sigma.types import SigmaRegularExpression, SigmaRegularExpressionFlag, SigmaString

from detection_pack.languages.spl.author_regex import author_regex
from detection_pack.languages.spl.spl_characters import LETTERS, TERM_END, TERM_START, literal
from detection_pack.languages.spl.spl_literals import Alternative, alternative, parts_of, pattern
from detection_pack.languages.spl.spl_regex import to_re2
from detection_pack.model.refused_value import RefusedValue
from support.spl import BYTES, MODES, UTF, Mode

CHARACTERS = [
    chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
]
#: What may stand on the other side of a character beside a term: nothing, and one to four bytes.
BEYOND = ("", "x", " ", "²", "é", "÷", "“", "中", "😀")


#: What languages are written with today; vowel signs are no letters in Unicode.
WRITTEN = (
    "äöüßàâçéèêëîïôœùûÿñáíóúąćęłńśźżčďěňřšťůžđőűășțğışåæøþðəķļņģāēīū",
    "ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹơư",
    "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўљњћђџјқңғүұһөәӣӯҷҳ",
    "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ",
    "אבגדהוזחטיכךלמםנןסעפףצץקרשת",
    "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژکگیٹڈڑںھہے٠١٢٣٤٥٦٧٨٩",
    "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहকখগঘচছজঝਕਖਗકખગகஙசఅఆకఖಕಖമയ",
    "กขคฆงจฉชซญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ",
    "ሀሁሂለሉበተነአከወዘየደገጠፀፈ",
    "あいうえおかきくけこんアイウエオカキクケコンヴ日本語漢字中国简体繁體龍한국어글자가힣",
)


def is_letter(c: str) -> bool:
    return unicodedata.category(c)[0] in "LN"


def differing(mode: Mode, characters: list[str]) -> set[str]:
    """The characters beside which a term is found where `has` would not find it, or the other way round."""
    return {
        c
        for c in characters
        for beyond in (BEYOND if ord(c) < 0x800 else BEYOND[:1])
        for regex, text in (
            (f"{TERM_START}term", f"{beyond}{c}term"),
            (f"term{TERM_END}", f"term{c}{beyond}"),
        )
        if mode.matches(f"(?i){regex}", text) is is_letter(c)
    }


def test_between_characters_a_term_ends_where_it_does_for_has() -> None:
    """But for the ten of `characters` beside others of Latin-1."""
    assert differing(UTF, CHARACTERS) == set("ªºµ²³¹¼½¾×ß")
    assert all(
        UTF.matches(TERM_START + "term", f"{beyond}{c}term") is False
        for c in "ªºµ²³¹¼½¾ß"
        for beyond in BEYOND
        if beyond not in ("²", "é", "÷")
    )


def test_of_bytes_a_letter_of_a_rare_script_ends_a_term() -> None:
    """The departure `splunk-letters`: more is found, never less, and no common script is among it."""
    found = differing(BYTES, CHARACTERS)
    assert all(is_letter(c) for c in found)
    assert not {c for c in found if any(low <= ord(c) <= high for low, high in LETTERS)}
    assert not found & set("".join(WRITTEN) + "".join(WRITTEN).upper())
    assert len(found) < 0.2 * sum(map(is_letter, CHARACTERS)) + 100 and "\u16a0" in found  # a rune


def test_a_range_of_letters_holds_nothing_else() -> None:
    for low, high in LETTERS:
        assert {unicodedata.category(chr(code))[0] for code in range(low, high + 1)} <= set("LNC")


# ---- one verdict -----------------------------------------------------------------------------------------

#: Characters of each length, some that fold into one another, and some that could be the bytes of another.
ALPHABET = "abkKsS \n.*\\-é É ſ\u212aßẞàÀ ÂâÃ©«»\xa0²×ÿŸµμ ж Ж ς σ Σ İıi“”—中ｓ😀\u0301\u200b"
texts = st.text(st.sampled_from(ALPHABET), max_size=8)
#: Between these no byte of one is part of another (`characters` says which do).
exact = st.text(st.sampled_from([c for c in ALPHABET if c not in "×ß²"]), max_size=8)


def verdicts(regex: str, text: str) -> set[bool]:
    model = duckdb.execute("SELECT regexp_matches(?, ?)", [text, to_re2(regex)]).fetchone()
    assert model is not None
    return {bool(model[0]), *(mode.matches(regex, text) for mode in MODES)}


def same(a: str, b: str) -> bool:
    """Without regard to case, character for character, where none beyond ASCII becomes one of ASCII."""
    forms = [{f for f in (c, c.lower(), c.upper()) if c.isascii() or not f.isascii()} for c in a]
    return len(a) == len(b) and all(y in form for y, form in zip(b, forms, strict=True))


@settings(max_examples=400, deadline=None)
@given(exact, exact, st.booleans())
@example("search-mailbox", "\u017fearch-mailbox", False)
@example("k", "\u212a", False)
@example("é", "É", False)
def test_a_literal_is_the_same_in_both_modes(value: str, text: str, cased: bool) -> None:
    regex = ("" if cased else "(?i)") + rf"\A{literal(value, cased)}\z"
    assert verdicts(regex, text) == {value == text if cased else same(value, text)}
    assert verdicts(regex, value) == {True}


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab?*?é中k"), min_size=1, max_size=6), exact, st.booleans())
@example("??*", "中", False)
@example("*??a", "中a", False)
@example("a?b", "aéb", True)
def test_a_wildcard_takes_one_character(value: str, text: str, cased: bool) -> None:
    regex = pattern([alternative(parts_of(SigmaString(value), "field"), cased)], cased)
    shown = re.escape(value).replace(r"\?", ".").replace(r"\*", ".*")
    expected = re.fullmatch(shown, text, re.DOTALL | (0 if cased else re.IGNORECASE)) is not None
    if cased or not set("\u212a\u017f") & set(text):
        assert verdicts(regex, text) == {expected}
    assert len(verdicts(regex, text)) == 1


ATOMS = (
    "a",
    "s",
    "k",
    "é",
    r"\xe9",
    ".",
    "[ab]",
    "[^k]",
    "[a-z]",
    "[éa]",
    r"\S",
    r"\w",
    r"\W",
    r"[^\s]",
    "(?:as|é)",
    "(?:.+|s)",
    "(?:[^k]+s?)",
    "(?:.+s{0,1})",
    r"\.",
    "\\\t",
)
REPEATS = ("", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}")
expressions = st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(REPEATS)), min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(expressions, exact, st.booleans(), st.sampled_from(["", "^", "$", "^$"]))
@example([(".", "")], "中", False, "^$")
@example([(".", ""), (".", "")], "ẞ", False, "")
@example([(".", "+"), (".", "+")], "ẞ", False, "^$")
@example([(r"\S", "*"), (".", "")], "中", False, "")
@example([("é", "+")], "éé", False, "^$")
@example([("[^k]", "")], "\u212a", True, "^$")
def test_an_authors_expression_is_the_same_in_both_modes(
    atoms: list[tuple[str, str]], text: str, caseless: bool, ends: str
) -> None:
    source = "".join(atom + repeat for atom, repeat in atoms)
    source = ("^" if "^" in ends else "") + source + ("$" if "$" in ends else "")
    flags = {SigmaRegularExpressionFlag.IGNORECASE} if caseless else set()
    regex = author_regex(SigmaRegularExpression(source, flags), "field")
    assert '"' not in regex and "`" not in regex
    assert len(verdicts(regex, text)) == 1, regex
    if not caseless:
        assert verdicts(regex, text) == {re.search(source, text, re.ASCII) is not None}


@pytest.mark.parametrize("source", ["[а-я]", r"[\xe0-\xff]", "[^é]"])
def test_a_class_that_bytes_cannot_say_is_refused(source: str) -> None:
    with pytest.raises(RefusedValue, match="beyond ASCII"):
        author_regex(SigmaRegularExpression(source), "field")


@pytest.mark.parametrize("letter", "éЖ中")
def test_terms_of_one_field_are_joined_with_their_boundaries(letter: str) -> None:
    regex = pattern([Alternative(TERM_START, literal(t, False), TERM_END) for t in ("curl", "wget")], False)
    for text, expected in ((f"“CURL”{letter}", True), (f"{letter}curl", False), (f"wget{letter}", False)):
        assert verdicts(regex, text) == {expected}

"""The trap: an expression that Elasticsearch refuses, at query time and with the whole rule.

Most values are known to fit without counting the states of their automaton. What is said to fit must fit when
it is counted, and Lucene itself must take it.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.types import SigmaString

from detection_pack.languages.lucene.automaton import dfa_size
from detection_pack.languages.lucene.lucene_regex import MAX_LENGTH, MAX_STATES, MAX_WORK, fits, render
from detection_pack.platforms.elastic.values import (
    _ENDS,
    _TERMS,
    FOLDED,
    _terms_fit,
    _terms_node,
    expressions,
)
from detection_pack.platforms.terms import WholeTerm, marked
from judges import lucene_judge, require

#: Few letters, so that values share beginnings and overlap themselves; more than ASCII now and then.
LETTERS = st.sampled_from('aAbx- /\\.7"é')
TEXTS = st.text(LETTERS, min_size=1, max_size=24)
MANY = st.lists(TEXTS, min_size=1, max_size=12)


def whole(text: str) -> WholeTerm:
    return WholeTerm(text, text[0].isalnum(), text[-1].isalnum())


def plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


@settings(max_examples=300, deadline=None)
@given(MANY)
def test_terms_that_are_said_to_fit_do(texts: list[str]) -> None:
    terms = [whole(text) for text in texts]
    if _TERMS.fit(terms):
        assert dfa_size(_TERMS.build(terms), MAX_STATES, MAX_WORK) is not None


@settings(max_examples=300, deadline=None)
@given(MANY, st.sampled_from([("", ""), ("*", ""), ("", "*"), ("*", "*")]))
def test_values_that_are_said_to_fit_do(texts: list[str], ends: tuple[str, str]) -> None:
    values = [SigmaString(f"{ends[0]}{plain(text)}{ends[1]}") for text in texts]
    if _ENDS.fit(values):
        assert dfa_size(_ENDS.build(values), MAX_STATES, MAX_WORK) is not None
    if FOLDED.fit(texts):
        assert dfa_size(FOLDED.build(texts), MAX_STATES, MAX_WORK) is not None


@settings(max_examples=100, deadline=None)
@given(MANY)
def test_whatever_is_written_fits(texts: list[str]) -> None:
    for node in expressions("f", [marked(SigmaString(f"*{plain(text)}*")) for text in texts]):
        assert fits(node) and len(render(node)) <= MAX_LENGTH


def test_the_states_of_a_list_grow_with_its_length_and_no_faster() -> None:
    """What may be anywhere stands alone: one automaton of all would keep in each state where every value may
    begin. An end, or a whole term with its boundaries, is cheaper with its like."""
    words = [f"piece{number}of" for number in range(12)]
    pieces = expressions("f", [SigmaString(f"*{word}*") for word in words])
    assert len(pieces) == 12
    alone = [dfa_size(node, MAX_STATES, MAX_WORK) for node in pieces]
    together = dfa_size(_ENDS.build([SigmaString(f"*{word}*") for word in words]), MAX_STATES, MAX_WORK)
    assert together is not None and sum(found[1] for found in alone if found) < together[1]
    assert len(expressions("f", [SigmaString(f"*\\\\{word}") for word in words])) == 1
    assert len(expressions("f", [marked(SigmaString(f"*{word}*")) for word in words[:4]])) == 1


def test_a_refusal_without_counting_is_no_waste() -> None:
    """Some of what is split without counting would have fitted, but not much of it."""
    words = [f"Verb{number}-SomeNoun{number}" for number in range(40)]
    largest = next(n for n in range(1, 40) if _terms_fit([whole(w) for w in words[:n]]) is False) - 1
    assert not fits(_terms_node([whole(w) for w in words[: largest + 3]]))


@pytest.mark.parametrize("lengths", [(4,), pytest.param((4, 9, 30), marks=pytest.mark.campaign)], ids=len)
def test_lucene_takes_the_largest(lengths: tuple[int, ...]) -> None:
    require(lucene_judge.available())
    queries = {}
    for length in lengths:
        words = [f"{chr(97 + n % 26)}{'y' * length}-{n}" for n in range(60)]
        for number, node in enumerate(expressions("f", [marked(SigmaString(f"*{word}*")) for word in words])):
            queries[f"{length} {number}"] = f"f:/{render(node)}/"
        for ends in ("{}", "*{}", "{}*", "*{}*"):
            listed = [SigmaString(ends.format(word)) for word in words]
            for number, node in enumerate(expressions("f", listed)):
                queries[f"{length} {ends} {number}"] = f"f:/{render(node)}/"
    document = {"f": ["cyyyy-2 and more"]}
    found = lucene_judge.execute(queries, {"d": document})
    assert found["4 0"] == frozenset({"d"}) and len(queries) > 7 * len(lengths)

r"""Regular expressions of a rule's author, held to what the dialects of all three platforms read alike.

Kusto has RE2's syntax, Splunk PCRE's, and for Lucene Python's parser reads the expression
(`regex_reader`).
They differ in more than what one of them lacks: ``\v`` is one character or a class, ``{,5}`` a repetition or
text, ``[[:alpha:]]`` a class or a few letters, ``(?x)`` a flag or an error, ``$`` may stand before a last
line break or not. An expression with such a part would be another rule on each platform, or an error at run
time.

Sources: RE2's syntax page, pcre2pattern(3), Python's `re`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sigma.types import SigmaRegularExpression, SigmaRegularExpressionFlag

from detection_pack.languages.regex.backtracking import is_exponential
from detection_pack.languages.regex.regex_reader import RegexFault, read
from detection_pack.languages.regex.regex_tree import Node, Repeat, parts

#: One token: an escape, the start of a group, a repetition, a bracket, or any other character.
_TOKEN = re.compile(
    r"\\x[0-9A-Fa-f]{2}|\\.|\(\?[a-zA-Z-]*[:)]|\(\?P<\w+>|\(\?.|\{[0-9]*,?[0-9]*\}|\[[:.=]|.", re.DOTALL
)
_ESCAPED_LETTERS = frozenset("dDwWsSbBAtnrf")
_GROUP = re.compile(r"\(\?(?:[ims]*(?:-[ims]+)?[:)]|P<[A-Za-z_][A-Za-z0-9_]*>)", re.ASCII)
_OPEN_START = re.compile(r"\{,[0-9]+\}")
#: RE2 refuses a repetition of more, nested ones multiplied.
_MOST_TIMES = 1000


def tokens(source: str) -> Iterator[tuple[str, bool]]:
    """The tokens of an expression, each with whether it stands in a character class."""
    inside, first = False, False
    for found in _TOKEN.finditer(source):
        token = found[0]
        # In a class every character but ] is for itself, whatever it would be with those after it.
        parts = [token] if not inside or token[0] == "\\" or token in ("[:", "[.", "[=") else list(token)
        for part in parts:
            yield part, inside
            if not inside:
                inside = first = part[0] == "["
                if inside and len(part) > 1:
                    first = False
            elif part == "^" and first:
                pass
            elif part == "]" and not first:
                inside = False
            else:
                first = False


def pattern_fault(value: SigmaRegularExpression) -> str | None:
    """Why an expression is not one that the platforms read alike and surely finish; None if it is."""
    return _pattern_fault(str(value.regexp), frozenset(value.flags))


@lru_cache(maxsize=4096)  # every platform asks of every expression
def _pattern_fault(source: str, flags: frozenset[SigmaRegularExpressionFlag]) -> str | None:
    for token, in_class in tokens(source):
        if fault := _fault(token, in_class):
            return f'the regular expression has "{token}", {fault}; write it without that'
    try:
        if _times(read(source, flags)) > _MOST_TIMES:
            return f"the regular expression repeats a part over {_MOST_TIMES:,} times; repeat it less often"
        # Python's parser makes one class of (a|a), which a matcher takes for two ways.
        apart = "".join("|()" if token == "|" and not inside else token for token, inside in tokens(source))
        if is_exponential(read(apart, flags)):
            return (
                "the regular expression repeats what may be empty or is repeated itself: one text matches in "
                "so many ways that Splunk gives up on it; write it without a repetition in a repetition"
            )
    except RegexFault as error:
        if error.part == "possessive repeat":
            return (
                "the regular expression has a possessive repetition, which is not everywhere; leave out the +"
            )
        return f"the regular expression cannot be read ({error}); correct it"
    except RecursionError as error:
        return f"the regular expression cannot be read ({error}); correct it"
    return None


def with_exact_end(value: SigmaRegularExpression, end: str, dollar: str = "$") -> str:
    """The expression with ``end`` in place of each ``$`` that is an anchor, ``dollar`` of each in a class.

    In PCRE and Python the anchor also stands before a last line break, in RE2 it does not; and in a Splunk
    dashboard two dollar signs would enclose a token.
    """
    if SigmaRegularExpressionFlag.MULTILINE in value.flags:
        return str(value.regexp)
    return "".join(
        (dollar if in_class else end) if token == "$" else token
        for token, in_class in tokens(str(value.regexp))
    )


def _fault(token: str, in_class: bool) -> str | None:
    if token[0] == "\\":
        letter = token[1:2]
        known = len(token) == 4 or letter in _ESCAPED_LETTERS - (
            frozenset("bBA") if in_class else frozenset()
        )
        punctuation = letter.isascii() and letter != "" and not letter.isalnum() and letter != "_"
        return None if known or punctuation else "which not every platform reads alike"
    if in_class:
        return "a class by name, which not every platform has" if len(token) == 2 else None
    if token.startswith("(?") and not _GROUP.fullmatch(token):
        return "which not every platform has"
    if _OPEN_START.fullmatch(token):
        return "which is text on one platform and a repetition on another"
    return None


def _times(node: Node, outer: int = 1) -> int:
    """How often the most repeated part is written out."""
    if isinstance(node, Repeat):
        outer *= max(1, node.low if node.high is None else node.high)
    return max([outer, *(_times(part, outer) for part in parts(node))])

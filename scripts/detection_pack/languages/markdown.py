"""Markdown in which text from a rule is shown and never interpreted.

A rule comes from a stranger, and its text ends up on a page of the repository, in a report on a pull request
and in Kibana. Every character that Markdown, HTML, GitHub's extensions (autolinks, mentions, emoji, math),
Kibana's guide plugins (``!{investigate{…}}``) or mustache (``{{…}}``) could take for markup is written as a
character reference, which CommonMark shows as the character (specification 0.31, "Entity and numeric
character references") and no template sees: ``{{x}}`` becomes ``&#123;&#123;x&#125;&#125;``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from detection_pack.model.findings import printable

#: A colon starts a link, an emoji or a directive only before another character; a list needs its mark first.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>&#|~!@$^=]|:(?=\S)|(?i:(?<=\bwww)\.)|^[-+]")
_NUMBERED = re.compile(r"^(\d+)([.)])")
#: GitHub looks for mentions, e-mail addresses and issue numbers in the text as it is shown.
_REFERENCED = re.compile(r"(&#(?:35|64);)(?=[0-9A-Za-z])")
_ZERO_WIDTH_SPACE = "&#8203;"
#: RFC 3986's characters without the quotes and brackets that could end a link.
_ADDRESS = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9\-._~:/?#@!$&()*+,;=%]*", re.ASCII)
_TARGET = re.compile(r"(?:https://|(?:\.\./)*[A-Za-z0-9#])[A-Za-z0-9\-._/]*(?:#[A-Za-z0-9\-]+)?", re.ASCII)


def plain(value: object) -> str:
    """One line of text as Markdown that shows exactly it."""
    marked = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", folded(value))
    return _NUMBERED.sub(lambda found: f"{found[1]}&#{ord(found[2])};", marked)


def folded(value: object) -> str:
    """Text without line breaks, control characters or runs of blanks."""
    shown = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(shown.split())


def visible(value: object) -> str:
    """One line of text in which nothing hides: blanks are folded, other characters that do not print, such as
    those that turn the direction of writing, are escapes."""
    return printable(" ".join(str(value).split()))


def text(value: object) -> str:
    """One line of text for a page on GitHub, in a paragraph, a list or a table: `visible`, and no part of it
    is markup, a link, or the mention of a person or an issue (a space of no width parts the mark from the
    name)."""
    return _REFERENCED.sub(rf"\1{_ZERO_WIDTH_SPACE}", plain(visible(value)))


def strong(value: object) -> str:
    """`text` in bold; nothing for no text (two pairs of asterisks alone would be a line across the page)."""
    shown = text(value)
    return f"**{shown}**" if shown else ""


def paragraphs(value: object) -> list[str]:
    """The paragraphs of a block of text, each as `text`; empty ones are left out."""
    return [part for part in map(text, re.split(r"\n\s*\n", str(value))) if part]


def code(value: object) -> str:
    """A code span; `text` where none can show it (nothing, or a `|`, which would end a table's cell)."""
    shown = visible(value)
    if not shown or "|" in shown:
        return text(value)
    ticks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def fence(content: str, language: str = "") -> str:
    """A fenced block that nothing in ``content`` can close. A character that does not print is an escape."""
    lines = content.removesuffix("\n").split("\n")
    shown = "\n".join(printable(line.replace("\t", "    ")) for line in lines)
    ticks = "`" * max(3, _longest_run(shown) + 1)
    return f"{ticks}{language}\n{shown}\n{ticks}"


def link(label: str, target: str) -> str:
    """A link of ours: ``label`` is Markdown, ``target`` a relative path or an address that we made.

    Raises ValueError for a target with any character that such a target has no need of.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target!r} is not a target of ours")
    return f"[{label}]({target})"


def address(value: object) -> str:
    """A web address of a rule as a link that shows it; anything else as `text`."""
    shown = str(value).strip()
    return f"<{shown}>" if _ADDRESS.fullmatch(shown) else text(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown of one line: of `text`, `code` and `link`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)

"""docs/investigation.md and docs/playbook.md, made of response/ and of the rules that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection_pack.languages.markdown import code, fence, link, strong, table, text
from detection_pack.model.pack import Pack
from detection_pack.model.playbook import HOWS, Kind, Playbook, Step, read_playbook
from detection_pack.model.playbook import PLAYBOOK as PLAYBOOK_DATA
from detection_pack.model.rule import INVESTIGATION, Rule
from detection_pack.platforms.platform import platforms

INVESTIGATION_PAGE, PLAYBOOK_PAGE = Path("docs/investigation.md"), Path("docs/playbook.md")
_MADE = "<!-- Made by detection-pack build from response/: do not edit. -->"


def guide_pages(pack: Pack) -> dict[Path, bytes]:
    """The pages by their paths below the pack's root; none for a pack without a playbook. A rule or a query
    that the pack does not have is left out; `validate` names it. Raises `PackError`."""
    if not (pack.root / PLAYBOOK_DATA).is_file():
        return {}
    playbook, documents = read_playbook(pack.root)
    playbook = _of(pack, playbook)
    about: Sequence[Mapping[str, str]] = documents[1].data.get("about", ()) if len(documents) > 1 else ()
    made = {
        INVESTIGATION_PAGE: _investigation(pack, playbook, about),
        PLAYBOOK_PAGE: _playbook(playbook),
    }
    return {path: ("\n\n".join(parts) + "\n").encode() for path, parts in made.items()}


def _of(pack: Pack, playbook: Playbook) -> Playbook:
    """The playbook with the rules and queries that the pack has."""
    known = pack.by_name
    kinds = []
    for kind in playbook.kinds:
        asked = tuple(
            replace(one, queries=tuple(n for n in one.queries if n in known)) for one in kind.questions
        )
        kinds.append(replace(kind, rules=tuple(n for n in kind.rules if n in known), questions=asked))
    return replace(playbook, kinds=tuple(kinds))


# ---- the investigation -----------------------------------------------------------------------------


def _investigation(pack: Pack, playbook: Playbook, about: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield "# From an alert to a decision"
    yield _MADE
    yield (
        "The guide of each rule stands in its artefact, too: in Sentinel's description, in Splunk's next "
        "steps, in Kibana's investigation guide, in Defender's recommended actions. This page is the whole "
        f"of it. What to do once you have decided: {link('the playbook', 'playbook.md')}."
    )
    yield "## In ten minutes"
    yield (
        "1. Read the alert: who, from where, with what, and which record. What each column holds stands on "
        f"the rule's page ({link('all rules', 'rules/README.md')}).\n"
        "2. Find your rule below, and hold what you see against what is normal.\n"
        "3. Ask the questions in their order. Behind each stands the query that answers it: a hunting query "
        "in Sentinel and Defender, a report in Splunk, a Discover session in Elastic. Put your account, "
        "mailbox, application or address in place of the one in it, or have the first command below do it. "
        "The second answers the first questions from an export of the log: timeline, mailboxes, clients, "
        "addresses, permissions and rules changed, gaps.\n"
        "4. Nothing harmless explains it, or you cannot tell: go by the playbook. Evidence first where a "
        "step would destroy it."
    )
    yield fence(
        "detection-pack investigate --queries --user ann@contoso.example --platform sentinel\n"
        "detection-pack investigate export.csv --user ann@contoso.example --report report.html",
        "sh",
    )
    yield "## What the records say, and what they do not"
    for one in about:
        yield f"### {text(one['title'])}"
        yield text(one["text"])
        yield _sourced(one)
    yield "## By rule"
    rows = [
        (_rule(name), link(text(kind.title), f"#{kind.id}")) for kind in playbook.kinds for name in kind.rules
    ]
    yield table(("rule", "guide"), sorted(rows))
    for kind in playbook.kinds:
        yield f'## <a id="{kind.id}"></a>{text(kind.title)}'
        yield from _asked(pack, kind)
    yield "## Queries"
    yield (
        "Each is a rule of sigma/investigation, built like every other and executed on its events on each "
        "platform that has its data; its page shows the queries. For Elastic each stands in Lucene and, in "
        "dist/elastic/investigation, in ES|QL."
    )
    yield table(
        ("query", "answers", "value to fill in", "platforms"), [_query(pack, rule) for rule in _queries(pack)]
    )


def _asked(pack: Pack, kind: Kind) -> Iterator[str]:
    if kind.normal:
        yield f"{strong('What is normal.')} {text(kind.normal)}"
    lines = []
    for number, question in enumerate(kind.questions, start=1):
        named = ", ".join(_rule(name) for name in question.queries)
        lines.append(f"{number}. {text(question.ask)}" + (f" {named}" if named else ""))
    if lines:
        yield strong("Ask, in this order.")
        yield "\n".join(lines)
    meant = _meanings(pack, kind)
    if meant:
        yield strong("What the fields mean.")
        yield table(("field", "holds"), meant)
    if kind.cannot_show:
        yield strong("What no log shows.")
        yield "\n".join(f"- {text(one)}" for one in kind.cannot_show)
    yield f"Then: {link('what to do', f'playbook.md#{kind.id}')}."


def _meanings(pack: Pack, kind: Kind) -> list[tuple[str, str]]:
    """The fields that the alerts of a kind show, as their log sources explain them."""
    found: dict[str, str] = {}
    for name in kind.rules:
        guide = pack.rule(name).guide if name in pack.by_name else None
        found |= {field: said for field, said in (guide.meanings if guide else {}).items() if said}
    return [(code(field), text(said)) for field, said in sorted(found.items())]


def _queries(pack: Pack) -> list[Rule]:
    return [rule for rule in pack.rules if rule.tier == INVESTIGATION]


def _query(pack: Pack, rule: Rule) -> tuple[str, ...]:
    asked: Mapping[str, Any] = rule.main.data.get("parameter") or {}
    where = [here.title for here in platforms() if pack.pipelines[here.id].absence(rule) is None]
    value = f"{text(asked.get('name'))}: {code(asked.get('value'))}"
    return _rule(rule.name), text(rule.title), value, ", ".join(where)


def _rule(name: str) -> str:
    return link(code(name), f"rules/{name}.md")


# ---- the playbook ----------------------------------------------------------------------------------


def _playbook(playbook: Playbook) -> Iterator[str]:
    yield "# Playbook"
    yield _MADE
    yield (
        "What to do once an alert is no false positive. Words in capitals stand for what your case fills in. "
        "Each step says the right that it needs, what it breaks and how to undo it, and where and when that "
        "was read; what no source states directly is marked unconfirmed: try it where nothing can break. The "
        "commands were not run against a live service here."
    )
    connect = [(text(where), code(how)) for where, how in playbook.connect.items()]
    if connect:
        yield "PowerShell is connected first:"
        yield table(("to", "by"), connect)
    yield "## By rule"
    for kind in playbook.kinds:
        yield f'### <a id="{kind.id}"></a>{text(kind.title)}'
        yield f"Rules: {', '.join(_rule(name) for name in kind.rules)}."
        lines = [
            f"{number}. {step.heading}: {link(text(step.title), f'#{step.id}')}"
            for number, step in enumerate(kind.steps, start=1)
        ]
        yield "\n".join(lines)
        yield f"Before that: {link('what to ask', f'investigation.md#{kind.id}')}."
    for phase, title in playbook.phases.items():
        yield f"## {title}"
        for step in playbook.steps:
            if step.phase == phase:
                yield from _step(step)


def _step(step: Step) -> Iterator[str]:
    yield f'### <a id="{step.id}"></a>{text(step.title)}'
    yield fence(step.command, HOWS[step.how])
    rows = [
        ("needs", step.right),
        ("breaks", step.breaks),
        ("undo", step.undo),
        ("keeps", step.keeps),
        ("source", f"{step.source}, read {step.read}"),
        ("unconfirmed", step.unconfirmed),
    ]
    yield table(("", ""), [(name, text(said)) for name, said in rows if said])


def _sourced(one: Mapping[str, str]) -> str:
    said = f"Source: {one['source']}, read {one['read']}."
    return text(said + (f" Unconfirmed: {one['unconfirmed']}." if one.get("unconfirmed") else ""))

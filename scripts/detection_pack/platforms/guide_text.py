"""What an artefact says of an alert beside its query: what to ask, and what to do, from the pack's playbook.

The whole of it, with each command, right and way back, stands in docs/investigation.md and docs/playbook.md;
an artefact names the questions with the queries that answer them, and the steps in their order.
"""

from __future__ import annotations

from collections.abc import Mapping

from detection_pack.model.playbook import Guide, Step
from detection_pack.model.rule import Rule

GUIDE_PAGE, PLAYBOOK_PAGE = "docs/investigation.md", "docs/playbook.md"


def questions_of(guide: Guide, platform: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each question with the titles of the queries that answer it on a platform."""
    titles: Mapping[str, str] = guide.titles.get(platform, {})
    return [
        (one.ask, tuple(titles[name] for name in one.queries if name in titles))
        for one in guide.kind.questions
    ]


def step_line(step: Step) -> str:
    """A step as one line of text."""
    return f"{step.heading}: {step.title}"


def plain_guide(rule: Rule, platform: str, place: str) -> list[str]:
    """The guide as lines of text, the questions first; none for a rule without one. ``place``: where the
    platform has the investigation queries."""
    if (guide := rule.guide) is None:
        return []
    lines = []
    if guide.kind.normal:
        lines.append(f"What is normal: {' '.join(guide.kind.normal.split())}")
    asked = questions_of(guide, platform)
    if asked:
        lines.append(f"Ask, in this order (queries: {place}):")
        for number, (ask, titles) in enumerate(asked, start=1):
            lines.append(f"{number}. {ask}" + (f" [{'; '.join(titles)}]" if titles else ""))
    lines.append(f"If nothing harmless explains it (commands, rights and ways back: {PLAYBOOK_PAGE}):")
    lines += [f"{number}. {step_line(step)}" for number, step in enumerate(guide.kind.steps, start=1)]
    return lines

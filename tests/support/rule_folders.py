"""Folders of anybody's rules whose files belong together: several rules in a file, correlations, filters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Folder = Mapping[str, str]


def rule(title: str, program: str, name: str = "", number: int = 0, more: str = "") -> str:
    """A rule of process creation, with a name and an id where they are given."""
    head = f"title: {title}\n"
    head += f"id: 11111111-1111-4111-8111-{number:012}\n" if number else ""
    head += f"name: {name}\n" if name else ""
    return (
        f"{head}{more}logsource: {{product: windows, category: process_creation}}\n"
        f"detection:\n  s: {{Image|endswith: '\\{program}.exe'}}\n  condition: s\nlevel: low\n"
    )


def correlation(*rules: str, title: str = "Many", more: str = "") -> str:
    return (
        f"title: {title}\ncorrelation:\n  type: event_count\n  rules: [{', '.join(rules)}]\n"
        f"  group-by: [Computer]\n  timespan: 5m\n  condition: {{gte: 3}}\n{more}level: high\n"
    )


def sigma_filter(
    rules: str, selection: str = "{Computer|startswith: 'DC-'}", condition: str = "not selection", **more: str
) -> str:
    source = more.get("source", "{product: windows, category: process_creation}")
    return (
        f"title: {more.get('title', 'Domain controllers')}\nlogsource: {source}\n"
        f"filter:\n  rules: {rules}\n  selection: {selection}\n  condition: {condition}\n"
    )


WHOAMI = rule("Base", "whoami", "base_rule", 1)
NET = rule("Net", "net", "net_rule", 2)
END = "---\n"

#: Each is built or refused; `build` and `validate` say the same of all.
FOLDERS: dict[str, Folder] = {
    "two rules": {"two_rules.yml": rule("One", "whoami", "one") + END + rule("Two", "net", "two")},
    "rules by title": {"pair.yml": rule("One, 1", "whoami") + END + rule("Two", "net")},
    "rules of one title": {"pair.yml": rule("Same", "whoami") + END + rule("Same", "net")},
    "a correlation elsewhere": {"base.yml": WHOAMI, "deep/er/many.yml": correlation("base_rule")},
    "a correlation by id": {
        "x/base.yml": WHOAMI,
        "many.yml": correlation("11111111-1111-4111-8111-000000000001"),
    },
    "both": {
        "base.yml": WHOAMI,
        "many.yml": correlation("base_rule", more="  generate: true\n"),
    },
    "both, as the specification has it": {
        "base.yml": WHOAMI,
        "many.yml": correlation("base_rule", more="generate: true\n"),
    },
    "an unknown rule": {"base.yml": WHOAMI, "many.yml": correlation("base_rul")},
    "two of a name": {
        "a/base.yml": WHOAMI,
        "b/base.yml": NET.replace("net_rule", "base_rule"),
        "many.yml": correlation("base_rule"),
    },
    "a correlation of a correlation": {
        "base.yml": WHOAMI,
        "many.yml": correlation("base_rule", more="name: many\n"),
        "more.yml": correlation("many", title="More"),
    },
    "a faulty base": {
        "base.yml": WHOAMI.replace("endswith", "endswiht"),
        "many.yml": correlation("base_rule"),
    },
    "a broken base": {"base.yml": WHOAMI + END + "- x\n", "many.yml": correlation("base_rule")},
    "a filter": {"base.yml": WHOAMI, "filter.yml": sigma_filter("[base_rule]")},
    "a filter in the file": {"base.yml": WHOAMI + END + sigma_filter("base_rule")},
    "filters": {
        "base.yml": WHOAMI,
        "net.yml": NET,
        "f/one.yml": sigma_filter("any"),
        "f/two.yml": sigma_filter(
            "[11111111-1111-4111-8111-000000000001]", "{CommandLine|contains: ' /all'}", "not 1 of them"
        ),
    },
    "a filter of a correlated rule": {
        "base.yml": WHOAMI,
        "many.yml": correlation("base_rule"),
        "filter.yml": sigma_filter("base_rule"),
    },
    "a filter of a correlation": {
        "base.yml": WHOAMI,
        "many.yml": correlation("base_rule", more="name: many\n"),
        "filter.yml": sigma_filter("many"),
    },
    "a filter of nothing": {"base.yml": WHOAMI, "filter.yml": sigma_filter("[base_rul, base_rule]")},
    "a filter of other logs": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("base_rule", source="{product: m365}"),
    },
    "a filter of all logs of Windows": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("base_rule", source="{product: windows}"),
    },
    "a faulty filter": {
        "base.yml": WHOAMI,
        "net.yml": NET,
        "filter.yml": sigma_filter("base_rule", condition="not selektion"),
    },
    "a filter of an unknown field": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("base_rule", "{Compter: x}"),
    },
    "a filter with a lookahead": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("base_rule", "{Computer|re: 'a(?!b)'}"),
    },
    "a broken filter": {
        "base.yml": WHOAMI,
        "net.yml": NET,
        "filter.yml": sigma_filter("[base_rule]") + "  x: [\n",
    },
    "a filter without rules": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("x").replace("  rules: x\n", ""),
    },
    "a filter by number": {"base.yml": WHOAMI, "filter.yml": sigma_filter("[0]")},
    "a filter that is a rule": {"base.yml": WHOAMI + "filter: {rules: any, s: {User: x}, condition: s}\n"},
    "an odd selection": {
        "base.yml": WHOAMI,
        "filter.yml": sigma_filter("base_rule", condition="not _s").replace("selection:", "_s:"),
    },
    "a pattern of hidden selections": {
        "base.yml": WHOAMI.replace("  s:", "  _s:").replace("condition: s", "condition: 1 of _*"),
        "filter.yml": sigma_filter("base_rule"),
    },
    "too many filters": {
        "base.yml": WHOAMI,
        **{f"filter_{n}.yml": sigma_filter("base_rule", title=f"F{n}") for n in range(51)},
    },
    "suffixes": {"a.YML": WHOAMI, "sub/b.Yaml": NET, ".git/c.yml": "x: [", "d.txt": "x: ["},
    "one name": {
        "corr/base.yml": rule("A", "whoami"),
        "filter/base.yml": rule("B", "net"),
        "base.yml": rule("C", "cmd"),
    },
    "one name for all": {
        "Base.yml": rule("A", "whoami"),
        "base.yml": rule("B", "net"),
        "base.yaml": rule("C", "cmd"),
        "x/base.yml": rule("D", "whoami"),
    },
}


def write(folder: Path, files: Folder) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder

"""Answers of a replay for the tests of the report: ordinary, hostile and large ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import DIST

#: The rule whose queries stand in dist/.
RULE = "exchange_admin_cmdlet"
#: Each runs, breaks out or hides where something is not escaped. ``planted`` is what a script would set.
HOSTILE = (
    "<script>window.planted=1</script>",
    "</script><script>window.planted=1</script>",
    "<!--<script>window.planted=1//",
    "]]><img src=x onerror=window.planted=1>",
    '" autofocus onfocus="window.planted=1" x="',
    "' onmouseover='window.planted=1",
    "</title></style></textarea></datalist></select><svg onload=window.planted=1>",
    "{{ 7*7 }}{% raw %}${window.planted=1}",
    "javascript:window.planted=1",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "line\u2028break\u2029\u0085\r\nnext\ttab",
    "\x00\x07\x1b[31mred\x7f",
    "half \ud800 pair \udfff",
    "=cmd|' /C calc'!A0",
    "https://planted.example/?beacon",
)


def hit(rule: str, time: str | None, user: str, **more: Any) -> dict[str, Any]:
    columns = {
        "UserId": user, "ClientIP": more.pop("address", "203.0.113.24"),
        "ClientAgent": more.pop("agent", ""), "DetectionType": more.pop("type", "Cmdlet"),
        "DetectionDetail": more.pop("detail", "Search-Mailbox"), "ExtraInfo": more.pop("extra", ""),
    }  # fmt: skip
    whole = {
        "rule": rule, "time": time, "platforms": ["sentinel", "splunk"], "columns": columns,
        "events": None, "group": None, "window": None, "value": None,
    }  # fmt: skip
    return whole | more


def rule(name: str, hits: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    own = [h for h in hits if h["rule"] == name]
    users = sorted({h["columns"]["UserId"] for h in own})
    whole = {
        "rule": name, "title": name.title(), "level": "high", "tier": "core", "source": "mail",
        "hits": len(own), "users": len(users), "first": None, "last": None,
        "per_day": {"median": 1.5, "worst": 3},
        "top": {"users": [[u, 1] for u in users[:5]], "addresses": [], "applications": []},
        "platforms": {"sentinel": {"hits": len(own)}, "splunk": {"hits": len(own)}}, "trial": None,
    }  # fmt: skip
    return whole | more


def answer(hits: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "read": {
            "files": 1, "records": {"mail": 20}, "span": None, "skipped": 0, "skipped_first": [],
            "repeated": 0, "other": 0, "silent": [], "absent_fields": {}, "unknown": {},
        },
        "rules": list(rules),
        "hits": list(hits),
    }  # fmt: skip


def ordinary() -> dict[str, Any]:
    """Six hits of two rules, of three people, on two platforms; one without a time."""
    hits = [
        hit(RULE, "2026-03-10T09:15:00Z", "carol@contoso.example", events=["e1"], address="198.51.100.7"),
        hit(RULE, "2026-03-10T08:15:00.500Z", "alice@contoso.example", events=["e2"], platforms=["splunk"]),
        hit(RULE, "2026-03-10T08:15:00Z", "Bob@contoso.example", events=["e3"]),
        hit("bulk_cross_mailbox_access", "2026-03-11T10:00:00+02:00", "alice@contoso.example",
            group={"UserId": "alice@contoso.example"}, window="2026-03-11T08:00:00Z", value=7.0),
        hit("bulk_cross_mailbox_access", "2026-03-12T08:00:00Z", "bob@contoso.example",
            extra="=HYPERLINK(1)", detail="\uff0b1"),
        hit(RULE, None, "carol@contoso.example", agent="-2+3", extra="a;=1"),
    ]  # fmt: skip
    second = rule(
        "bulk_cross_mailbox_access", hits,
        platforms={"sentinel": {"hits": 2}, "splunk": {"hits": 3}, "elastic": {"refused": "no such window"}},
        trial={"set": "threshold=9", "hits": 1}, differences=["a group: found by sentinel, not by splunk"],
    )  # fmt: skip
    return answer(hits, [rule(RULE, hits), second])


def hostile() -> dict[str, Any]:
    """Every text of an answer is hostile, in turn each of `HOSTILE`."""
    hits = [
        hit(
            text, "2026-03-10T09:15:00Z", text, address=text, agent=text, type=text, detail=text, extra=text,
            events=[text], group={text: text}, platforms=["sentinel"],
        )
        for text in HOSTILE
    ]  # fmt: skip
    rules = [
        rule(
            text, hits, title=text, level=text, tier=text, source=text, first=text, last=text,
            top={key: [[text, 1]] for key in ("users", "addresses", "applications")},
            platforms={"sentinel": {"hits": 1}, "elastic": {"refused": text}},
            trial={"set": text, "hits": 2}, differences=[text],
        )
        for text in HOSTILE
    ]  # fmt: skip
    made = answer(hits, rules)
    made["read"] |= {
        "records": dict.fromkeys(HOSTILE, 1), "span": {"first": HOSTILE[0], "last": HOSTILE[1]},
        "skipped": 2, "skipped_first": [{"path": t, "line": 1, "reason": t} for t in HOSTILE],
        "silent": list(HOSTILE), "absent_fields": {t: [t] for t in HOSTILE},
        "unknown": {t: [[t, 2]] for t in HOSTILE},
    }  # fmt: skip
    return made


def large(n: int) -> dict[str, Any]:
    """Many hits, each with texts of its own."""
    hits = [
        hit(
            RULE, f"2026-{1 + i % 12:02}-{1 + i % 28:02}T{i % 24:02}:{i % 60:02}:00Z",
            f"user{i % 5000}@contoso.example", address=f"198.51.{i % 250}.{i % 199}",
            agent=f"Client=WebServices;Tool/{i % 40}", detail=f"Search-Mailbox of box {i}",
            extra=json.dumps([{"Name": "Identity", "Value": f"box{i}@contoso.example"}]),
            events=[f"id-{i:08}"],
        )
        for i in range(n)
    ]  # fmt: skip
    return answer(hits, [rule(RULE, hits)])


def dist_with_query(folder: Path, name: str, query: str) -> Path:
    """A copy of dist/ with a rule of any name whose query on Sentinel is this text."""
    shutil.copytree(DIST, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    path = f"sentinel/queries/{name}.kql"
    manifest["rules"].append({"name": name, "artefacts": [{"path": path, "sha256": ""}]})
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / path).write_text(query, encoding="utf-8")
    return folder

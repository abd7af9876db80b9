"""The trap: a page for people that a log writes. Markup, hidden characters, files outside, half a file."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import Pack
from detection_pack.model.rule import AlertView
from detection_pack.replay import verdict
from detection_pack.replay.answer import AboutRule, Answer, RuleAnswer, found_hits
from detection_pack.replay.report_chart import chart
from detection_pack.replay.report_island import inert_json, island
from detection_pack.replay.report_page import page, write_report
from detection_pack.replay.report_queries import queries_of
from support.report_answers import HOSTILE, RULE, answer, dist_with_query, hit, hostile, ordinary, rule


class Markup(HTMLParser):
    """The tags of a page with their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "script" and self.lasttag == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return page(hostile(), DIST, HOSTILE[0])


def test_hostile_text_makes_no_tag_and_no_attribute(hostile_page: str) -> None:
    made = Markup(hostile_page)
    allowed = set(re.findall(r"<(\w+)", (_data() / "report.html.j2").read_text(encoding="utf-8")))
    allowed |= {"svg", "rect", "line", "text", "title"}
    assert {tag for tag, _ in made.tags} <= allowed
    assert not [name for _, listed in made.tags for name in listed if name.startswith("on")]
    assert not [listed for _, listed in made.tags if {"src", "autofocus", "style"} & listed.keys()]
    links = [listed["href"] for _, listed in made.tags if "href" in listed]
    assert links and all(link and link.startswith("#") for link in links)
    assert hostile_page.count("<script") == hostile_page.count("</script") == 2


def test_the_data_block_holds_no_markup_and_is_the_data(hostile_page: str) -> None:
    text = re.findall(r'<script type="application/json" id="data">(.*)</script>\n<script>', hostile_page)
    [block] = text
    assert not re.search(r"[<>&\u2028\u2029]", block) and block.isascii()
    assert json.loads(block)["rules"] == [_escaped(one) for one in HOSTILE]
    # Its escapes are of characters that print: the script shows the texts as they are.
    assert all(one.isprintable() for one in json.loads(block)["strings"])
    assert set(map(_escaped, HOSTILE)) <= set(json.loads(block)["strings"])


def test_no_control_or_bidirectional_character_is_in_the_page(hostile_page: str) -> None:
    found = {c for c in hostile_page if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert not found
    assert "\\u202egnp.exe" in hostile_page and "\\ud800" in hostile_page


def test_the_policy_loads_nothing_and_names_the_one_script_and_style() -> None:
    policy = next(
        listed["content"] or ""
        for _, listed in Markup(page(ordinary(), DIST, "1")).tags
        if listed.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert "require-trusted-types-for 'script'" in policy


def test_the_same_answer_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, ordinary(), DIST, "1")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_page_takes_its_name_whole(tmp_path: Path) -> None:
    """Who has the old page open keeps the old page: it is exchanged, not written over."""
    (tmp_path / "a.html").write_text("old")
    (tmp_path / "open.html").hardlink_to(tmp_path / "a.html")
    write_report(tmp_path / "a.html", ordinary(), DIST, "1")
    assert (tmp_path / "open.html").read_text() == "old"
    assert "</html>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PackError, match="No space left on device"):
        write_report(path, ordinary(), DIST, "1")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_query_outside_dist_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret.kql"
    secret.write_text("secret", encoding="utf-8")
    dist = dist_with_query(tmp_path / "dist", "linked", "x")
    (dist / "sentinel/queries/linked.kql").unlink()
    (dist / "sentinel/queries/linked.kql").symlink_to(secret)
    with pytest.raises(PackError, match="outside the folder"):
        queries_of(dist, ["linked"])
    name = "../../../secret"
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    manifest["rules"][-1] = {"name": name, "artefacts": [{"path": f"sentinel/queries/{name}.kql"}]}
    (dist / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(PackError, match="outside the folder"):
        queries_of(dist, [name])


def test_hits_stand_in_the_order_of_their_times() -> None:
    made = island(ordinary(), ["sentinel", "splunk"], [])
    times = [made["strings"][at] for at in made["fields"][0]]
    assert times == [
        "2026-03-10T08:15:00Z", "2026-03-10T08:15:00.500Z", "2026-03-10T09:15:00Z",
        "2026-03-11T10:00:00+02:00", "2026-03-12T08:00:00Z", "",
    ]  # fmt: skip
    assert made["seen"] == [3, 2, 3, 3, 3, 3]


def test_inert_json_is_json() -> None:
    value = {text: [text, 1, None] for text in HOSTILE}
    assert json.loads(inert_json(value)) == value


@pytest.mark.parametrize(
    ("times", "unit", "bars"),
    [
        (["2026-03-10T08:15:00Z"], "hour", 1),
        (["2026-03-10T23:59:59Z", "2026-03-11T01:00:00Z"], "hour", 3),
        (["2026-02-27T00:00:00Z", "2026-03-10T00:00:00Z"], "day", 12),
        (["2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z"], "week", 53),
        (["2024-01-31T00:00:00Z", "2027-03-01T00:00:00Z"], "month", 39),
        (["1970-01-01T00:00:00Z", "2026-03-01T00:00:00Z"], "year", 57),
        (["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"], "84 years", 120),
        (["9999-12-31T22:00:00Z", "9999-12-31T23:59:59Z"], "hour", 2),
        (["0001-01-03T00:00:00Z", "0002-01-01T00:00:00Z"], "week", 53),
    ],
)
def test_bars_hold_every_hit_once(times: list[str], unit: str, bars: int) -> None:
    made = chart(answer([hit(RULE, t, "a") for t in [*times, None]], []))
    assert made is not None and made.untimed == 1
    assert (made.unit, len(made.bars), sum(n for _, n in made.bars)) == (unit, bars, len(times))
    assert all(n for _, n in (made.bars[0], made.bars[-1]))


def test_rules_beyond_the_colours_share_one() -> None:
    hits = [hit(f"rule{i:02}", "2026-03-10T08:15:00Z", "a") for i in range(11)]
    made = chart(answer(hits, []))
    assert made is not None and [name for _, name in made.legend][-1] == "4 other rules"
    assert [colour for colour, _ in made.legend] == list(range(8))
    assert chart(answer([hit(RULE, None, "a")], [])) is None


def test_where_platforms_differ_the_page_says_so() -> None:
    text = page(ordinary(), DIST, "1")
    assert text.count("The platforms differ") == 1
    assert "Elastic refused bulk_cross_mailbox_access:</strong> no such window" in text
    assert "not by splunk</li>" in text
    assert "with threshold=9: 1 hit instead of 2" in text


def test_an_empty_answer_is_a_page() -> None:
    text = page(answer([], [rule(RULE, [], per_day=None)]), DIST, "1")
    assert "No hit has a time." in text and "0 hits" in text


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _data() -> Path:
    return ROOT / "scripts" / "detection_pack" / "replay" / "data"


# -- from logs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_own_events(pack: Pack) -> dict[str, Any]:
    """The answer for every event of tests/events of one rule."""
    sources = load_log_sources(ROOT)
    rules = [one for one in pack.rules if one.name == RULE]
    events = [e for c in verdict.all_cases(ROOT, rules, sources)[RULE] for e in c.events]
    platforms = ["sentinel", "splunk", "elastic"]
    hits = verdict.replay(DIST, events, platforms, [RULE], sources.values())
    times = [event.time for event in events if event.time is not None]
    about = AboutRule(RULE, "title", "high", "core", "m365")
    one = RuleAnswer(about, found_hits(RULE, hits), dict.fromkeys(platforms, 1), (min(times), max(times)))
    return Answer({}, (one,)).as_json()


def test_each_event_is_one_hit_of_all_platforms(of_own_events: Mapping[str, Any]) -> None:
    [one], hits = of_own_events["rules"], of_own_events["hits"]
    assert one["hits"] == len(hits) == len({h["events"][0] for h in hits}) > 20
    assert all(h["platforms"] == ["sentinel", "splunk", "elastic"] for h in hits)
    assert one["first"] == min(h["time"] for h in hits)
    assert datetime.fromisoformat(one["last"]).tzinfo == UTC
    assert one["top"]["users"][0][0] == "admin@contoso.example"
    # The time stands in front of the columns, not among them once more.
    assert island(of_own_events, ["sentinel"], [])["columns"] == list(AlertView.COLUMNS)


def test_replay_writes_the_page(tmp_path: Path) -> None:
    record = {
        "Id": "1", "CreationTime": "2026-03-10T09:15:00", "RecordType": 1, "Operation": "Search-Mailbox",
        "UserId": "<script>alert(1)</script>", "ClientIP": "203.0.113.24:16902",
    }  # fmt: skip
    log = tmp_path / "log.json"
    log.write_text(json.dumps(record) + "\nnot a record\n", encoding="utf-8")
    path = tmp_path / "report.html"
    arguments = ["--root", str(ROOT), "replay", str(log), "--platform", "sentinel", "--rule", RULE]
    assert main([*arguments, "--report", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text


@pytest.mark.parametrize("name", ["none/report.html", "."])
def test_a_page_that_cannot_be_written_is_said_before_the_replay(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(
            ["--root", str(ROOT), "replay", str(tmp_path / "missing.json"), "--report", str(tmp_path / name)]
        )
    assert ended.value.code == 2
    assert re.match(r"error: .+ cannot be written; ", capsys.readouterr().err)


def test_a_report_needs_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "replay", "--report", str(tmp_path / "r.html")])
    assert ended.value.code == 2 and "error: --report goes with a log" in capsys.readouterr().err

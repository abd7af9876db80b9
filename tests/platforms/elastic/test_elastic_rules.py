"""The trap: an import that Kibana takes and that then finds nothing, finds it twice, or shows a rule's text
as markup. Every rule of rules.ndjson is checked against the API's form, executed on every case of
tests/events, and run on a schedule while records arrive hours late: a look-back without overlap misses them,
an overlap without deduplication alerts again on each run."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from conftest import DIST, ROOT
from detection_pack.build.dist import make, rule_entries
from detection_pack.languages.markdown import plain
from detection_pack.model.case import Case
from detection_pack.model.event import Event, Hit
from detection_pack.model.pack import Pack
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.arrivals import Arrival
from detection_pack.platforms.elastic.backend import queries
from detection_pack.platforms.elastic.imports import PATH, load_rules, name_of, ndjson, rules_of
from detection_pack.platforms.elastic.imports import line as line_of
from detection_pack.platforms.elastic.schedule import scheduled
from detection_pack.platforms.elastic.timing import span
from detection_pack.replay.verdict import all_cases, clock_for, judge
from support.elastic_rules import AUDIT, rule_of
from support.engines import SOUND_ONLY, run_elastic, run_rules
from support.kibana_buttons import without_buttons
from support.rule_sample import kinds, sample
from support.rules import given as rules_given
from support.sources import M365

SCHEMA = json.loads((ROOT / "tests" / "data" / "kibana_rule_schema.json").read_text(encoding="utf-8"))
RULES = load_rules(DIST)
KINDS = {"bulk_cross_mailbox_access": ["esql", "threshold"]}
#: Lateness as it happens: at once, minutes, hours, and almost the whole look-back.
LATE = [timedelta(0), timedelta(minutes=40), timedelta(hours=3), timedelta(hours=11), timedelta(hours=23.9)]


@pytest.fixture(scope="module", params=["some", pytest.param("kinds", marks=pytest.mark.campaign)])
def cases(request: pytest.FixtureRequest, pack: Pack) -> dict[str, list[Case]]:
    """The cases of the sample of rules, in a campaign of all kinds of rules."""
    names = kinds() if request.param == "kinds" else sample()
    return all_cases(ROOT, [rule for rule in pack.rules if rule.name in names], pack.sources)


def made(pack: Pack, rule: Rule) -> list[dict[str, Any]]:
    return rules_of(rule, queries(rule, pack.pipelines["elastic"]), pack.version)


def kinds_of(rule: Rule) -> list[str]:
    """A threshold rule counts documents or values of one field, and nothing else."""
    if rule.correlation is None:
        return ["query"]
    counts = rule.correlation.type in ("event_count", "value_count")
    return ["esql", "threshold"] if counts else ["esql"]


def faults(rule: Mapping[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(rule)]


# -- the file ------------------------------------------------------------------------------------------


def test_every_line_is_a_rule_of_the_api_and_the_last_sums_up(pack: Pack) -> None:
    *lines, last, end = (DIST / PATH).read_bytes().decode("utf-8").split("\n")
    assert end == "" and [json.loads(line) for line in lines] == RULES
    for rule in RULES:
        assert faults(rule) == [], rule["name"]
    summary = json.loads(last)
    assert summary["exported_count"] == summary["exported_rules_count"] == len(RULES)
    assert not any(value for key, value in summary.items() if key.startswith(("missing", "excluded")))
    found: dict[str, list[str]] = {}
    for rule in RULES:
        found.setdefault(name_of(rule), []).append(rule["type"])
    expected = {
        rule.name: kinds_of(rule) for rule in rules_given(pack, "elastic") if rule.tier not in BY_HAND
    }
    assert found == expected
    assert all(expected[name] == kinds for name, kinds in KINDS.items())


def test_the_schema_refuses_what_kibana_would() -> None:
    good = next(rule for rule in RULES if rule["type"] == "query")
    for change in (
        {"language": "esql"},
        {"risk_score": "73"},
        {"severity": "High"},
        {"from": "24h"},
        {"threshold": {"field": [], "value": 1, "cardinality": []}},
        {"related_integrations": [{"package": "o365", "version": ">=3.0.0"}]},
        {"surprise": 1},
    ):
        assert faults({**good, **change}), change


def test_ids_are_the_rules_own_and_stable(pack: Pack) -> None:
    ids = {(name_of(rule), rule["type"]): rule["rule_id"] for rule in RULES}
    assert len(set(ids.values())) == len(ids)
    for rule in (rule for rule in rules_given(pack, "elastic") if rule.tier not in BY_HAND):
        assert ids[rule.name, "esql" if rule.correlation else "query"] == rule.id
    assert ids["bulk_cross_mailbox_access", "threshold"] == "cb71ef5b-ce86-5bf0-a85f-3e68ac0548f0"


def test_attack_is_named_by_tactic_technique_and_sub_technique() -> None:
    for rule in RULES:
        # Whatever else a rule is for, it stands below Collection once.
        [threat] = [one for one in rule["threat"] if one["tactic"]["id"] == "TA0009"]
        assert (threat["tactic"]["id"], threat["tactic"]["name"]) == ("TA0009", "Collection")
        [technique] = [one for one in threat["technique"] if one["id"] == "T1114"]
        assert (technique["id"], technique["name"]) == ("T1114", "Email Collection")
        [below] = [one for one in technique["subtechnique"] if one["id"] == "T1114.002"]
        assert below == {
            "id": "T1114.002",
            "name": "Remote Email Collection",
            "reference": "https://attack.mitre.org/techniques/T1114/002/",
        }


def test_analysts_see_the_alert_view(pack: Pack) -> None:
    for rule in RULES:
        own = pack.rule(name_of(rule))
        shown = rule["investigation_fields"]["field_names"]
        if rule["type"] == "esql":
            assert shown[:6] == list(own.alert.COLUMNS)
        else:
            fields = queries(own, pack.pipelines["elastic"]).fields
            viewed = list(dict.fromkeys(fields[name] for name in own.alert.fields))
            # What an object has below it stands behind the object; one of those may be of the view itself.
            assert set(viewed) <= set(shown) and len(set(shown)) == len(shown)
            leaves = {
                leaf
                for item in pack.pipelines["elastic"].document.data["transformations"]
                if item.get("key") == "shown_fields"
                for listed in item["val"].values()
                for leaf in listed
            }
            assert set(shown) - set(viewed) <= leaves
            assert [f for f in shown if f not in leaves] == [f for f in viewed if f not in leaves]


def test_required_fields_are_those_of_the_query_with_their_types() -> None:
    types = {
        rule["name"]: {f["name"]: (f["type"], f["ecs"]) for f in rule["required_fields"]} for rule in RULES
    }
    assert types["Scripted Client Reading Exchange Mailboxes"] == {
        "event.code": ("keyword", True),
        "o365.audit.ClientInfoString": ("keyword", False),
    }
    assert types["Exchange Mail Collection from PowerShell"] == {
        "event.type": ("keyword", True),
        "process.command_line": ("wildcard", True),
        "process.name": ("keyword", True),
    }
    exact, threshold = (r for r in RULES if name_of(r) == "bulk_cross_mailbox_access")
    assert {"@timestamp", "user.email", "user.id", "source.ip"} <= set(types[exact["name"]])
    assert {"o365.audit.MailboxGuid", "user.id", "source.ip"} <= set(types[threshold["name"]])


def test_each_of_the_two_rules_says_whom_it_is_for() -> None:
    exact, threshold = (r for r in RULES if name_of(r) == "bulk_cross_mailbox_access")
    assert threshold["name"] == f"{exact['name']} (threshold)"
    for text in (exact["note"], exact["setup"]):
        assert "exact rule of the two" in text and "Platinum" in text
    for text in (threshold["note"], threshold["setup"]):
        assert "approximate rule of the two" in text and "Basic" in text
    assert not exact["enabled"] and not threshold["enabled"]


# -- text of a rule is shown as text -------------------------------------------------------------------

HOSTILE = (
    'A `title` [x](javascript:alert) <img src=x onerror="a()"> {{context.secret}} {{{raw}}} *b* __c__ # d '
    '| e !{investigate{"label":"x"}} !{osquery{}} ![i](//x) & &amp; ~~f~~ :smile: https://x.example '
    "www.y.example a@b.c"
)


def test_markup_in_a_rule_shows_as_text(pack: Pack) -> None:
    document = {
        "title": HOSTILE,
        "id": "00000000-0000-4000-8000-00000000000a",
        "description": f'{HOSTILE}\n\n- {HOSTILE}\n\n1234. {HOSTILE}\n\n---\n\n=== \u2028\u202e"}}\n',
        "falsepositives": [HOSTILE, "```\n</script>"],
        "author": 'a", "enabled": true, "x": "b',
        "references": ["javascript:alert(1)", "https://x.example/a"],
        "logsource": AUDIT,
        "detection": {"selection": {"UserId": 'a"b\n\u2028{{x}}'}, "condition": "selection"},
    }
    [rule] = made(pack, rule_of(document))
    assert faults(rule) == []
    line, summary, end = ndjson([line_of(rule)]).decode().split("\n")
    assert json.loads(line) == rule and json.loads(summary)["exported_count"] == 1 and end == ""
    assert rule["enabled"] is False and rule["references"] == ["https://x.example/a"]
    # The queries in the setup guide are the pipeline's.
    note = without_buttons(rule["note"])
    for text in (note, re.sub(r"(?ms)^```esql$.*?^```$", "", rule["setup"])):
        assert "{" not in text and "}" not in text and "<" not in text and "\u202e" not in text
        assert not re.search(r"\]\(|!\[|https?:|www\.|\S@\S|~~|__|:smile:|\*\w", text)
    assert plain(HOSTILE) in rule["note"] and html.unescape(plain(HOSTILE)) == HOSTILE
    # What begins lines is the guide's own: headings, list items, numbered steps, paragraphs of plain text.
    assert not [line for line in note.split("\n") if re.match(r"\s|[=+`~|>]|---|\d{2,}[.)]", line)]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_its_references(text: str) -> None:
    shown = plain(text)
    assert html.unescape(shown) == " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert not set("`*_{}[]<>|~!@\\") & set(shown) and "\n" not in shown


# -- rules from strangers ------------------------------------------------------------------------------


def stranger(**more: Any) -> Rule:
    detection = {"selection": {"UserId": "x"}, "condition": "selection"}
    return rule_of({"title": "T", "logsource": AUDIT, "detection": detection, **more})


def test_tags_of_any_technique(pack: Pack) -> None:
    tags = ["attack.defense_evasion", "attack.t1078.004", "attack.t1114", "attack.g0016", "cve.2024-1"]
    [rule] = made(pack, stranger(tags=tags, level="critical"))
    assert faults(rule) == [] and (rule["severity"], rule["risk_score"]) == ("critical", 99)
    assert threats(rule) == {"Stealth": ["T1078"], "Collection": ["T1114"]}
    assert made(pack, stranger())[0]["threat"] == []


def threats(rule: Mapping[str, Any]) -> dict[str, list[str]]:
    return {t["tactic"]["name"]: [e["id"] for e in t["technique"]] for t in rule["threat"]}


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        (["attack.t1685"], {"Defense Impairment": ["T1685"]}),
        (["attack.stealth", "attack.t1027"], {"Stealth": ["T1027"]}),
        # What became of Defense Evasion is the tactic that the techniques serve.
        (["attack.defense-evasion", "attack.t1685.001"], {"Defense Impairment": ["T1685"]}),
        (["attack.defense-evasion", "attack.t1027"], {"Stealth": ["T1027"]}),
        (["attack.defense-evasion"], {"Stealth": []}),
        # A tactic that is not one of the technique's is no place for it.
        (["attack.impact", "attack.t1114.002"], {"Impact": [], "Collection": ["T1114"]}),
        # No tactic is preferred to another by chance.
        (["attack.t1197"], {"Execution": ["T1197"], "Persistence": ["T1197"], "Stealth": ["T1197"]}),
        # Revoked, unknown, of another matrix: no name, no place.
        (["attack.collection", "attack.t1114.009", "attack.t1562.001", "attack.t0859"], {"Collection": []}),
        (["attack.t9999"], {}),
    ],
)
def test_each_technique_stands_below_its_tactic_or_is_left_out(
    pack: Pack, tags: list[str], named: dict[str, list[str]]
) -> None:
    [rule] = made(pack, stranger(tags=tags))
    assert faults(rule) == [] and threats(rule) == named


def test_a_correlation_with_more_groups_than_kibana_suppresses_by_has_one_key_of_them(pack: Pack) -> None:
    base = {
        "title": "A",
        "name": "a",
        "logsource": AUDIT,
        "detection": {"selection": {"Operation": "A"}, "condition": "selection"},
    }
    correlation = {
        "type": "event_count",
        "rules": ["a"],
        "group-by": ["UserId", "ClientIP", "Operation"],
        "timespan": "1h",
        "condition": {"gte": 2},
    }
    exact, threshold = made(pack, rule_of(base, {"title": "T", "correlation": correlation}))
    assert faults(exact) == faults(threshold) == []
    assert exact["alert_suppression"]["group_by"] == ["group_key", "window"]
    assert "alerts are grouped by `group_key`, `window`" in exact["setup"]


def test_two_rules_with_one_id_are_refused(pack: Pack) -> None:
    shared = "00000000-0000-4000-8000-00000000000b"
    rules = (stranger(id=shared), replace(stranger(id=shared), name="another_rule"))
    built = make(replace(pack, rules=rules), keep_going=True)
    assert ["the id is that of" in finding.what for finding in built.refused] == [True]
    assert len(built.files[PATH].splitlines()) == 2


# -- executed ------------------------------------------------------------------------------------------


def test_rules_reach_the_verdicts_of_the_plain_queries(pack: Pack, cases: dict[str, list[Case]]) -> None:
    def keys(hits: list[Hit]) -> set[Any]:
        own = [hit for hit in hits if not hit.artefact.endswith(SOUND_ONLY)]
        return {(hit.events, hit.group, hit.window, hit.value) for hit in own}

    executed = 0
    alerting = [entry for entry in rule_entries(DIST) if entry.tier not in BY_HAND]
    for entry in (entry for entry in alerting if entry.name in cases):
        events = [event for case in cases[entry.name] for event in case.events]
        clock = clock_for(events)
        hits = run_rules(DIST, [entry], events, clock)
        plain_hits = run_elastic(DIST, [entry], events, clock)
        assert keys(hits) == keys(plain_hits)
        verdicts = judge(DIST, {entry.name: cases[entry.name]}, {(entry.name, "elastic"): hits})
        own = [v for v in verdicts if v.artefact.startswith(PATH)]
        assert [line for v in own for line in v.wrong] == []
        executed += len(own)
    assert executed == len([rule for rule in RULES if name_of(rule) in cases])


def test_a_rules_own_look_back_bounds_its_run(cases: dict[str, list[Case]]) -> None:
    for rule in (r for r in RULES if r["type"] == "query" and name_of(r) in cases):
        [entry] = [e for e in rule_entries(DIST) if e.name == name_of(rule)]
        event = next(case for case in cases[entry.name] if case.matches).events[0]
        assert event.time is not None
        back = span(rule["from"].removeprefix("now-"))
        clock = replace(clock_for([event]), lookback=None)
        for age, found in ((back - timedelta(seconds=1), {event.id}), (back, set())):
            [hit] = run_rules(DIST, [entry], [event], replace(clock, now=event.time + age))
            assert hit.events == found


# -- late events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stamped", [True, False])
def test_late_events_alert_exactly_once(cases: dict[str, list[Case]], stamped: bool) -> None:
    """Event time and arrival apart by up to the look-back, with event.ingested and without."""
    for rule in (r for r in RULES if r["type"] == "query" and name_of(r) in cases):
        own = cases[name_of(rule)]
        events = [event for case in own for event in case.events]
        matching = {event.id for case in own if case.expected_of("elastic") for event in case.events}
        arrivals = [
            Arrival(event, event.time + LATE[n % len(LATE)], stamped)
            for n, event in enumerate(events)
            if event.time is not None
        ]
        alerts = scheduled(rule, arrivals, suppression=False)
        seen = Counter(identifier for alert in alerts for identifier in alert.documents)
        assert seen == dict.fromkeys(matching, 1), rule["name"]
        arrived = {a.event.id: a.ingested for a in arrivals}
        interval = span(rule["interval"])
        for alert in alerts:
            [identifier] = alert.documents
            assert timedelta(0) <= alert.at - arrived[identifier] <= interval


def test_runs_without_overlap_would_miss_them(cases: dict[str, list[Case]]) -> None:
    """The test above can fail: by event time and with no more look-back than the interval, events are lost;
    by arrival an event that is days late is still found."""
    rule = next(r for r in RULES if r["type"] == "query" and name_of(r) in cases)
    event = next(case for case in cases[name_of(rule)] if case.matches).events[0]
    assert event.time is not None
    late = Arrival(event, event.time + timedelta(hours=3))
    narrow = {**rule, "from": f"now-{rule['interval']}"}
    assert scheduled({**narrow, "timestamp_override": "@timestamp"}, [late]) == []
    assert len(scheduled(narrow, [late])) == 1
    assert len(scheduled(rule, [Arrival(event, event.time + timedelta(days=6))])) == 1
    assert scheduled(rule, [Arrival(event, event.time + timedelta(days=6), stamped=False)]) == []


def test_more_than_a_run_may_alert_on_is_left_to_the_next() -> None:
    rule = next(r for r in RULES if name_of(r) == "suspicious_ews_client")
    start = datetime(2026, 3, 10, 12, tzinfo=UTC)
    record = {"RecordType": 2, "ClientInfoString": "curl/8.5", "CreationTime": "2026-03-10T12:00:00"}
    arrivals = [
        Arrival(Event(f"e{n}", M365, {**record, "Id": f"e{n}"}), start + timedelta(hours=1))
        for n in range(2 * rule["max_signals"] + 1)
    ]
    alerts = scheduled(rule, arrivals)
    assert len({alert.documents for alert in alerts}) == len(alerts) == len(arrivals)
    assert [count for _, count in sorted(Counter(a.at for a in alerts).items())] == [100, 100, 1]


def test_a_window_that_fills_up_late_alerts_once_where_suppression_is_licensed() -> None:
    rule = next(r for r in RULES if r["type"] == "esql" and name_of(r) == "bulk_cross_mailbox_access")
    start = datetime(2026, 3, 10, 12, 5, tzinfo=UTC)
    arrivals = []
    for n in range(6):
        at = start + timedelta(minutes=9 * n)
        record = {
            "Id": f"e{n}",
            "RecordType": 2,
            "Operation": "Create",
            "CreationTime": at.strftime("%Y-%m-%dT%H:%M:%S"),
            "UserId": "visitor@contoso.example" if n % 2 else "Visitor@contoso.example",
            "MailboxOwnerUPN": f"owner{n}@contoso.example",
        }
        arrivals.append(Arrival(Event(f"e{n}", M365, record), at + 4 * n * timedelta(hours=1)))
    [alert] = scheduled(rule, arrivals)
    fifth = arrivals[4].ingested
    assert timedelta(0) <= alert.at - fifth <= span(rule["interval"])
    # No address: suppression takes events without a value together, so this is still one alert.
    assert alert.values[:2] == ("visitor@contoso.example", "None")
    again = scheduled(rule, arrivals, suppression=False)
    assert len(again) > 20 and {a.values for a in again} == {alert.values}
    assert scheduled(rule, arrivals[:4]) == []


def test_a_threshold_counts_by_arrival_and_then_anew() -> None:
    """Five mailboxes of one hour, all of them hours late and not together: one alert, and one more for five
    others. By event time, within the same look-back, none would be found."""
    rule = next(r for r in RULES if r["type"] == "threshold" and name_of(r) == "bulk_cross_mailbox_access")
    start = datetime(2026, 3, 10, 12, tzinfo=UTC)

    def burst(first: int, lateness: timedelta) -> list[Arrival]:
        return [
            Arrival(
                Event(
                    f"e{n}",
                    M365,
                    {
                        "Id": f"e{n}",
                        "RecordType": 2,
                        "Operation": "Create",
                        "CreationTime": f"2026-03-10T12:{n % 60:02d}:00",
                        "UserId": 'o"neill\\visitor',
                        "ClientIP": "198.51.100.7",
                        "MailboxOwnerUPN": f"owner{n}@contoso.example",
                        "MailboxGuid": f"guid{n}",
                    },
                ),
                start + lateness + (n - first) * timedelta(minutes=29),
            )
            for n in range(first, first + 5)
        ]

    first, second = burst(0, timedelta(hours=5)), burst(5, timedelta(hours=9))
    [alert] = scheduled(rule, first)
    assert alert.values == ('o"neill\\visitor', "198.51.100.7")
    assert timedelta(0) <= alert.at - first[-1].ingested <= span(rule["interval"])
    assert len(scheduled(rule, [*first, *second])) == 2
    assert scheduled(rule, [*first, *second[:4]]) == [alert]
    assert scheduled({**rule, "timestamp_override": "@timestamp"}, first) == []


def test_a_field_that_a_record_must_bring_first_stands_in_the_setup_text() -> None:
    """An ES|QL query that names a column that no mapping has yet fails at every run."""
    told = {name_of(rule): str(rule["setup"]) for rule in load_rules(DIST) if rule["type"] == "esql"}
    heading = "### Fields that must have arrived once"
    assert "`o365.audit.Parameters.AccessRights`" in told["self_grant_then_read"].partition(heading)[2]
    assert heading not in told["app_reads_many_mailboxes"]

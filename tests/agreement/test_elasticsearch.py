"""The trap: a model of Elasticsearch that agrees with itself.

Every Lucene query that the pack ships or makes of other people's rules runs in the pack's model and in real
Elasticsearch, over the same documents with the same index mapping, and so does every threshold rule's
aggregation. Elasticsearch is right. Not one event may be judged otherwise, not one query may be refused, and
a document that Elasticsearch does not take is one that the model does not hold.

What real Elasticsearch cannot be asked here stands in `judges/elasticsearch/ElasticsearchJudge.java`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import make, rule_entries
from detection_pack.cli import main
from detection_pack.model.case import load_cases, log_source_of
from detection_pack.model.event import Event
from detection_pack.model.findings import Finding
from detection_pack.model.pack import Pack, load_pack
from detection_pack.platforms.elastic.cluster_store import ClusterStore
from detection_pack.platforms.elastic.hunts import HUNTS, load_hunts
from detection_pack.platforms.elastic.imports import name_of
from detection_pack.platforms.elastic.store import Bucket, Store
from detection_pack.platforms.elastic.timing import span
from judges import elasticsearch_judge, require
from support import corpus, generator
from support.community_events import records
from support.hostile_rules import FOLDER as HOSTILE
from support.hostile_rules import expectations
from support.rule_sample import sample
from support.sources import M365, PROCESS, SOURCES

SEED = 20261126
#: Lucene's longest term in bytes of UTF-8 (IndexWriter.MAX_TERM_LENGTH): the one thing in which the stand-in
#: for the wildcard type differs from the type.
LONGEST_TERM = 32_766


@dataclass(frozen=True)
class Query:
    """A Lucene query and the index patterns that it is for."""

    text: str
    indices: tuple[str, ...]


def versions() -> list[object]:
    """Of the major versions the first that a JDK is here for; in a campaign each."""
    listed = list(elasticsearch_judge.RELEASES)
    first = next((major for major in listed if elasticsearch_judge.available(major) is None), listed[0])
    return [pytest.param(one, marks=() if one == first else pytest.mark.campaign) for one in listed]


@pytest.fixture(scope="module", params=versions(), ids=elasticsearch_judge.version)
def node(request: pytest.FixtureRequest) -> elasticsearch_judge.Node:
    """A node of a version that a JDK is here for; at least one is needed."""
    reason = elasticsearch_judge.available(request.param)
    if reason is not None and elasticsearch_judge.available() is None:
        pytest.skip(reason)
    require(reason)
    return elasticsearch_judge.node(request.param)


# ---- what runs -------------------------------------------------------------------------------------------


def queries_of(dist: Path, names: Collection[str] | None = None) -> dict[str, Query]:
    """Every Lucene query of a build, in its file and in Kibana's rule, by artefact; those of some rules."""
    found = {}
    for path in sorted(dist.glob("elastic/queries/*.lucene")):
        if names is not None and path.stem not in names:
            continue
        view = json.loads(path.with_name(f"{path.stem}.view.json").read_text(encoding="utf-8"))
        found[path.stem] = Query(path.read_text(encoding="utf-8").strip(), tuple(view["index"]))
    for line in (dist / "elastic" / "rules.ndjson").read_text(encoding="utf-8").split("\n"):
        if line and (rule := json.loads(line)).get("language") == "lucene":
            if names is not None and name_of(rule) not in names:
                continue
            found[f"rules.ndjson {rule['name']}"] = Query(rule["query"], tuple(rule["index"]))
    for hunt in load_hunts(dist) if (dist / HUNTS).is_file() else ():
        if hunt["type"] == "query" and (names is None or name_of(hunt) in names):
            found[f"hunts.ndjson {name_of(hunt)}"] = Query(hunt["query"], tuple(hunt["index"]))
    return found


def thresholds_of(dist: Path, names: Collection[str] | None = None) -> dict[str, tuple[str, dict[str, Any]]]:
    """The query and the parameters of every threshold rule of a build, or of those among some rules."""
    return {
        path.name.split(".")[0]: (
            path.with_name(f"{path.name.split('.')[0]}.lucene").read_text(encoding="utf-8").strip(),
            json.loads(path.read_text(encoding="utf-8")),
        )
        for path in sorted(dist.glob("elastic/queries/*.threshold.json"))
        if names is None or path.name.split(".")[0] in names
    }


def own_events(names: Collection[str] | None = None) -> list[Event]:
    """The events of tests/events, or those of some rules."""
    pack = load_pack(ROOT)
    paths = [
        (ROOT / "tests" / "events" / f"{rule.name}.yml", log_source_of(rule, SOURCES))
        for rule in pack.rules
        if names is None or rule.name in names
    ]
    return [event for path, kind in paths for case in load_cases(path, kind) for event in case.events]


def odd_events() -> list[Event]:
    """Values at the edges of what a mapping says: lengths, types, addresses, letters, names of fields."""
    audit: list[dict[str, Any]] = [
        {"ClientInfoString": "Client=REST;" + "x" * length + ";python-requests/2.25"}
        for length in (0, 900, 989, 990, 991, 992, 2_000, 40_000)
    ]
    audit += [
        {"ClientInfoString": f"MailSniper{c}" * 2} for c in "é中\u212a\u0130ſ\u2028\n\t\x00\x1f\ufffe😀"
    ]
    audit += [{"ClientIPAddress": a, "ClientIP": a} for a in ADDRESSES]
    audit += [{"ExternalAccess": v, "OperationCount": v} for v in ODD_VALUES]
    audit += [
        {"Operation": o} for o in ("new-mailboxexportrequest", "NEW-MAILBOXEXPORTREQUEST", " Search-Mailbox")
    ]
    audit += [
        {"RecordType": r, "Operation": "Search-Mailbox"} for r in (1, "1", "ExchangeAdmin", 50, 9999, "x")
    ]
    audit += [
        {"CreationTime": t, "Operation": "Search-Mailbox"}
        for t in ("", "yesterday", None, "1969-12-31T23:59:59")
    ]
    processes: list[dict[str, Any]] = [
        {"CommandLine": "powershell " + "x" * length + " Search-Mailbox"}
        for length in (0, 1_000, 1_023, 1_024, 1_025, 8_191, 20_000, 32_738, 32_739, 32_740, 32_741, 50_000)
    ]
    processes += [
        {"CommandLine": "powershell " + "中" * 10_900 + " Search-Mailbox" + "y" * n} for n in range(39, 43)
    ]
    processes += [
        {"CommandLine": f"a{c}Search-Mailbox{c}b"} for c in 'é中\u212a\u0130ſ\u2028\n\t\x00\x1f\ufffe😀"\\/*?'
    ]
    processes += [
        {"Image": "C:\\" + "d" * n + "\\powershell.exe", "CommandLine": "Search-Mailbox"}
        for n in (1_005, 1_006, 1_007, 1_008)
    ]
    processes += [{"ProcessId": v, "ParentProcessId": v, "CommandLine": "Search-Mailbox"} for v in ODD_VALUES]
    processes += [{"EventType": e, "CommandLine": "Search-Mailbox"} for e in ("start", "end", "", "Start")]
    scripts = [
        *(f"a{c}Search-Mailbox{c}TargetMailbox" for c in ODD_LETTERS),
        *(f"Search{c}Mailbox TargetMailbox New-MailboxExport{c}Request" for c in ODD_LETTERS),
        *("x" * n + " New-MailboxSearch" for n in (1_024, LONGEST_TERM, LONGEST_TERM + 1, 100_000)),
        *("New-MailboxSearch" + "x" * n for n in (LONGEST_TERM - 17, LONGEST_TERM - 16)),
        *("", " ", "()", "-", "--", "_New-MailboxSearch-", "9New-MailboxSearch9", "NEW-MAILBOXSEARCH"),
    ]
    return [
        *(_audit(f"a{n}", record) for n, record in enumerate(audit)),
        *(_process(f"p{n}", record) for n, record in enumerate(processes)),
        *(_script(f"s{n}", text) for n, text in enumerate(scripts)),
    ]


def odd_names() -> list[Event]:
    """Records whose names cannot all be fields of an index, or not beside each other."""
    plain: list[dict[str, Any]] = [{name: "x", "Operation": "Search-Mailbox"} for name in ODD_NAMES]
    listed = [{"Parameters": [{"Name": name, "Value": "v"}]} for name in ODD_NAMES]
    return [_audit(f"n{n}", record) for n, record in enumerate([*plain, *listed])]


def _audit(identifier: str, record: Mapping[str, Any]) -> Event:
    base = {
        "CreationTime": "2026-03-10T09:15:00",
        "RecordType": 2,
        "Workload": "Exchange",
        "UserId": "a@contoso.example",
    }
    return Event(identifier, M365, {**base, "Id": identifier, **record})


def _process(identifier: str, record: Mapping[str, Any]) -> Event:
    base = {
        "UtcTime": "2026-03-10 09:15:00",
        "Image": "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
        "User": "CONTOSO\\a",
        "Computer": "ws01",
    }
    return Event(identifier, PROCESS, {**base, **record})


def _script(identifier: str, text: str) -> Event:
    record = {
        "EventID": 4104,
        "Channel": "Microsoft-Windows-PowerShell/Operational",
        "TimeCreated": "2026-03-10T09:15:00Z",
        "ScriptBlockText": text,
    }
    return Event(identifier, SOURCES["powershell_script"], record)


ODD_LETTERS = "é中\u212a\u0130\u0131ſßΣ\u2028\n\t\x00\x1f\ufffe😀\"\\/*?-_.'–９"
ADDRESSES = (
    *(
        "192.0.2.7",
        "192.0.2.7:443",
        "[2001:db8::5]:443",
        "2001:db8::5",
        "2001:0DB8:0:0:0:0:0:0005",
        "::ffff:192.0.2.7",
    ),
    *(
        "fe80::1%eth0",
        "fe80::1%3",
        "192.0.2.07",
        "192.0.2",
        "0xC0000207",
        "3221225991",
        " 192.0.2.7",
        "192.0.2.7/24",
    ),
    *("256.1.1.1", "::", "::1", "1::2::3", "unknown", "<null>", "[::ffff:192.0.2.7]", "::ffff:c000:207"),
)
ODD_VALUES = (
    *(
        True,
        False,
        "true",
        "false",
        "TRUE",
        "True",
        "",
        " ",
        "yes",
        "on",
        "0",
        "1",
        0,
        1,
        7,
        -7,
        3.7,
        "3.7",
        "-0.5",
    ),
    *(
        "1e3",
        "7 ",
        " 7",
        "0x10",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        2**63,
        -(2**63),
    ),
    *("NaN", "Infinity", "1_000", "١", "abc"),
)
ODD_NAMES = (
    *(
        "a b",
        "a.b",
        "a..b",
        ".a",
        "a.",
        ".",
        "..",
        " ",
        "a.b.c",
        "a",
        "ä",
        "中",
        "_id",
        "_source",
        "a*",
        "a?b",
        "a:b",
    ),
    *(
        "UserId.x",
        "x" * 300,
        "\t",
        "a\nb",
        "Parameters",
        "$x",
        "@timestamp",
        "%",
        "a,b",
        "a\\b",
        "a/b",
        "😀",
        "_",
        "-",
    ),
)


# ---- the comparison --------------------------------------------------------------------------------------


def disagreements(
    node: elasticsearch_judge.Node,
    events: Sequence[Event],
    queries: Mapping[str, Query],
    thresholds: Mapping[str, tuple[str, dict[str, Any]]] | None = None,
    moments: int = 24,
) -> Iterator[str]:
    """What the model and real Elasticsearch judge otherwise, one line each."""
    with Store(events) as model, ClusterStore(node.cluster, events) as real:
        immense = {event for event, reason in real.refused.items() if "immense term" in reason}
        for event in sorted(immense):
            if not _has_immense(real.document(event)):
                yield f"{event} is refused for a term that is not immense"
        for event in sorted((set(real.refused) ^ set(model.refused)) - immense):
            says = (
                f"Elasticsearch {real.refused.get(event, 'takes it')}, the model {model.refused.get(event)}"
            )
            yield f"document {_shown(real.document(event))}: {says}"
        # Most queries stand in a file and in Kibana's rule alike.
        for query, name in {query: name for name, query in queries.items()}.items():
            found = real.lucene(query.text, query.indices)
            for event in sorted(found ^ (model.lucene(query.text, query.indices) - immense)):
                who = "Elasticsearch" if event in found else "the model"
                yield f"{name}: only {who} finds {_shown(real.document(event))} with {query.text[:2000]}"
        for name, (text, stated) in (thresholds or {}).items():
            for moment in _moments(events, moments):
                during = (moment - span(stated["from"].removeprefix("now-")), moment)
                sides = [set(map(_bucket, side.buckets(text, stated, during))) for side in (real, model)]
                if sides[0] != sides[1]:
                    only = [sorted(side - (sides[0] & sides[1])) for side in sides]
                    yield f"{name} at {moment}: only Elasticsearch {only[0]}, only the model {only[1]}"
            if (times := [side.times(text, stated["index"], (None, None)) for side in (real, model)]) and (
                times[0] != times[1]
            ):
                yield f"{name}: the times of Elasticsearch are {times[0][:50]}, of the model {times[1][:50]}"


def _bucket(bucket: Bucket) -> tuple[object, ...]:
    return (tuple(bucket.key.items()), bucket.events, bucket.distinct, bucket.first, bucket.last)


def _moments(events: Sequence[Event], most: int) -> list[datetime]:
    """Times at which a threshold rule may run: those of events, evenly chosen, so that the ends of its
    look-back fall on events too."""
    times = sorted({event.time for event in events if event.time is not None})
    return times[:: -(-len(times) // most)] if times else []


def _has_immense(document: Mapping[str, Any]) -> bool:
    return any(len(str(value).encode()) > LONGEST_TERM for value in document.values())


def _shown(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True)
    return text if len(text) < 1500 else f"{text[:1000]}…{text[-400:]} ({len(text)} characters)"


def agree(
    node: elasticsearch_judge.Node, events: Sequence[Event], queries: Mapping[str, Query], **more: Any
) -> None:
    assert queries and events
    found = list(disagreements(node, events, queries, **more))
    assert not found, f"{len(found)} disagreements with {node.version}:\n" + "\n".join(found[:20])


# ---- dist/ -----------------------------------------------------------------------------------------------


WHOLE = pytest.mark.parametrize(
    "whole",
    [pytest.param(False, id="some rules"), pytest.param(True, id="every rule", marks=pytest.mark.campaign)],
)


def few() -> frozenset[str]:
    """The rules of the ordinary run: a threshold rule must be among them."""
    assert thresholds_of(DIST, sample())
    return sample()


def test_every_rule_of_dist_is_compared() -> None:
    """But for correlations that ES|QL alone can say, which real Elasticsearch does not have here."""
    entries = [e for e in rule_entries(DIST) if any(path.startswith("elastic/") for path in e.artefacts)]
    stem = DIST / "elastic" / "queries"
    alone = {e.name for e in entries if not (stem / f"{e.name}.lucene").exists()}
    assert all((stem / f"{name}.esql").exists() for name in alone)
    assert {entry.name for entry in entries} - alone <= set(queries_of(DIST))
    assert set(thresholds_of(DIST)) == {e.name for e in entries if e.window is not None} - alone


@WHOLE
def test_the_packs_own_events(whole: bool, node: elasticsearch_judge.Node) -> None:
    names = None if whole else few()
    agree(node, own_events(names), queries_of(DIST, names), thresholds=thresholds_of(DIST, names))


def test_generated_events(node: elasticsearch_judge.Node) -> None:
    events = generator.generate(1_000, SEED)
    agree(node, events, queries_of(DIST, few()), thresholds=thresholds_of(DIST, few()), moments=12)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [SEED + 1])
def test_many_generated_events(seed: int, node: elasticsearch_judge.Node) -> None:
    events = generator.generate(5_000, seed)
    agree(node, events, queries_of(DIST), thresholds=thresholds_of(DIST), moments=60)


# ---- other people's rules --------------------------------------------------------------------------------


def built(folder: Path, pack: Pack) -> Path:
    """A build of the pack's rules, those that are refused left out."""
    made = make(pack, keep_going=True)
    for path, content in made.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def community(folder: Path, count: int) -> tuple[Path, list[Event]]:
    """A build of ``count`` rules of the corpus, and events made of each rule's values."""
    corpus.write(folder / "rules", count, 4)
    findings: list[Finding] = []
    pack = load_pack(ROOT, folder / "rules", findings)
    assert findings == []
    dist = built(folder / "dist", pack)
    made: list[Event] = []
    for entry in rule_entries(dist):
        rule = pack.rule(entry.name)
        if rule.logsource.get("category") == "process_creation":
            rng = random.Random(rule.name)
            made += [
                Event(f"{rule.name} {n}", PROCESS, record)
                for n, record in enumerate(records(rule.main.data["detection"], rng, 8))
            ]
    return dist, made


def compare_community(node: elasticsearch_judge.Node, folder: Path, count: int) -> None:
    dist, events = community(folder, count)
    queries = queries_of(dist)
    assert len(queries) > 1.6 * count
    agree(node, [*events, *odd_events()], queries)


def test_queries_of_the_corpus(node: elasticsearch_judge.Node, tmp_path: Path) -> None:
    compare_community(node, tmp_path, 25)


@pytest.mark.campaign
def test_queries_of_a_larger_corpus(node: elasticsearch_judge.Node, tmp_path: Path) -> None:
    compare_community(node, tmp_path, 150)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hostile") / "dist"
    main(["--root", str(ROOT), "build", "--rules", str(HOSTILE), "--out", str(out), "--keep-going"])
    return out


def test_queries_of_hostile_rules(node: elasticsearch_judge.Node, hostile: Path) -> None:
    cases = [
        event
        for name, expected in expectations().items()
        for events in expected.events(name).values()
        for event in events
    ]
    queries = queries_of(hostile)
    assert len(queries) > 50
    agree(node, cases, queries, thresholds=thresholds_of(hostile), moments=150)


def _typed_events(count: int, seed: int) -> list[Event]:
    """Addresses and numbers at random, most of them nearly right."""
    rng = random.Random(seed)

    def address() -> str:
        """Without the forms that one version takes and the other does not: octets of four digits and an
        empty last octet (8.18 takes 2507.1.1.1 for 203.1.1.1 and 192.0.2. for 192.0.2.0), groups of eight
        hexadecimal digits (9.5 takes ::c0005207 for ::5207), a zone on an address of IPv4 (9.5 leaves it
        out). The model refuses all of them."""
        text = made("0123456789abcdefF:::...%[] /xg", 20, ADDRESSES)
        # The ingest model takes brackets away.
        bare = re.sub(r"[\[\] ]", "", text)
        overflows = re.search(r"\d{4,}\.|\.\d{4,}|\.(?:%|$)|[0-9A-Fa-f]{8,}|(?:^[^:%]*|\.\d+)%", bare)
        return "192.0.2.7" if overflows else text

    def made(alphabet: str, most: int, examples: Sequence[Any]) -> str:
        if rng.random() < 0.3:
            return "".join(rng.choices(alphabet, k=rng.randint(1, most)))
        text = str(rng.choice(examples))
        for _ in range(rng.randint(1, 2)):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(("", *alphabet)) + text[at + rng.randint(0, 1) :]
        return text

    return [
        _audit(
            f"t{n}",
            {
                "ClientIPAddress": address(),
                "OperationCount": made("0123456789+-.eE xf_١７", 8, ODD_VALUES),
                "ExternalAccess": made("truefalsTRUE10 ", 5, ODD_VALUES),
            },
        )
        for n in range(count)
    ]


def test_addresses_with_more_zeros_than_fit(node: elasticsearch_judge.Node) -> None:
    texts = (
        "2001:00db8::5",
        "::000001",
        "00000::1",
        "::0ffff:1",
        "::10000",
        "0::00001%a",
        "::0ffff:192.0.2.7",
    )
    agree(node, [_audit(f"z{n}", {"ClientIPAddress": text}) for n, text in enumerate(texts)], FIELDS)


def test_typed_values_at_random(node: elasticsearch_judge.Node) -> None:
    agree(node, _typed_events(600, SEED), FIELDS)


@pytest.mark.campaign
def test_many_typed_values_at_random(node: elasticsearch_judge.Node) -> None:
    agree(node, _typed_events(10_000, SEED + 1), FIELDS)


def test_names_that_cannot_be_fields(node: elasticsearch_judge.Node) -> None:
    agree(node, odd_names(), queries_of(DIST, few()))


def test_values_at_the_edges_of_the_mapping(node: elasticsearch_judge.Node, hostile: Path) -> None:
    agree(node, odd_events(), {**queries_of(DIST, few()), **queries_of(hostile), **FIELDS})


#: What rules ask of typed fields beside their own values.
FIELDS = {
    text: Query(text, ("*",))
    for text in (
        *(
            "o365.audit.ExternalAccess:true",
            "o365.audit.ExternalAccess:false",
            "_exists_:o365.audit.ExternalAccess",
        ),
        *(
            "o365.audit.OperationCount:7",
            "o365.audit.OperationCount:>3",
            "o365.audit.OperationCount:[* TO -1]",
            "o365.audit.OperationCount:[8 TO 1000]",
            "o365.audit.OperationCount:>=9223372036854775807",
            'client.ip:"::/8"',
            'client.ip:"1000::/4"',
            'client.ip:"fe80::/10"',
            'client.ip:"0.0.0.0/1"',
            "_exists_:o365.audit.OperationCount",
        ),
        *("process.pid:7", "process.pid:[0 TO 5]", "NOT _exists_:process.pid", "_exists_:@timestamp"),
        *(
            'source.ip:"192.0.2.0/24"',
            'source.ip:"2001:db8::/32"',
            "_exists_:source.ip",
            'source.ip:"::ffff:192.0.2.7"',
        ),
        *(
            "_exists_:o365.audit.ClientInfoString",
            "_exists_:process.command_line",
            "_exists_:process.executable",
        ),
        *(
            f"powershell.file.script_block_text:{asked}"
            for asked in (
                *("/.*search-mailbox.*/", "/search-mailbox/", "/Search-Mailbox/", "/.*/", "/[a-z]*-.*/"),
                *("search\\-mailbox", "SEARCH\\-MAILBOX", '"Search-Mailbox"', "mailbox", "*Mailbox", "a*"),
            )
        ),
    )
}


# ---- the comparison itself -------------------------------------------------------------------------------


def test_a_disagreement_is_found(node: elasticsearch_judge.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that finds one event less, and one that counts one bucket more, are both reported."""
    core = {rule.name for rule in load_pack(ROOT).rules if rule.tier == "core"}
    events, queries, thresholds = own_events(core), queries_of(DIST, core), thresholds_of(DIST, core)
    asked = Store.lucene

    def short(self: Store, *arguments: Any) -> frozenset[str]:
        return frozenset(sorted(asked(self, *arguments))[1:])

    monkeypatch.setattr(Store, "lucene", short)
    found = list(disagreements(node, events, queries))
    assert len(found) == len(set(queries.values())) and all(
        "only Elasticsearch finds" in line for line in found
    )
    monkeypatch.undo()
    monkeypatch.setattr(Store, "buckets", lambda *_: [])
    lines = list(disagreements(node, events, {}, thresholds, moments=6))
    assert lines and all(re.search(r"only Elasticsearch \[\(.*only the model \[\]", line) for line in lines)


def test_elasticsearch_refuses_what_is_no_query(node: elasticsearch_judge.Node) -> None:
    from detection_pack.platforms.elastic.cluster import Refused

    with (
        ClusterStore(node.cluster, odd_names()[:5]) as real,
        pytest.raises(Refused, match="Failed to parse query"),
    ):
        real.lucene("event.action:(")

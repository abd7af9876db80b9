"""The trap: a folder of a community's rules that builds into queries nobody has read, some of them invalid,
some of them asking something else than the rule.

A corpus in SigmaHQ's style is built, with every third of its rules meaning whole terms. Microsoft's parser,
Lucene's and our grammar read every query that comes out; every rule that does not come out is refused with a
line whose reason is on the list below; and queries are executed on process creations made of the rules' own
values, with near misses, and find exactly those that Sigma means (`sigma_semantics`).
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import Built, make
from detection_pack.cli import main
from detection_pack.languages.conf import read_conf
from detection_pack.languages.spl.spl_parser import macros_of, parse
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.findings import Finding
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.kusto import run as sentinel
from detection_pack.platforms.sentinel.arm import unescaped
from detection_pack.platforms.splunk import run as splunk
from judges import kql_judge, lucene_judge, require
from support import corpus
from support.community_events import records
from support.sigma_semantics import matcher
from support.sources import DEFENDER_TABLES, PROCESS, SENTINEL_TABLES

SEED = 4
#: Rules, and how many of them are executed too: a campaign takes them all.
SIZES = [(40, 16), pytest.param((240, 100), marks=pytest.mark.campaign)]
#: How many events are made of each rule that is executed.
EVENTS_EACH = 8
#: Of so many rules one says ``whole_terms: true``.
WHOLE_TERMS_EACH = 3
#: Rules and their events that share an index: the model of Elasticsearch walks all of an index's documents.
TOGETHER = 20
NOW = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
ONE_LINE = re.compile(r"^\S.*:\d+: .+; .+$")

#: Every reason for which a rule of the corpus may be refused, and why the platforms cannot do better.
REASONS: tuple[tuple[str, str], ...] = (
    (r'field "CurrentDirectory" .*no working directory', "DeviceProcessEvents has no such column"),
    (r'"Hashes" are the columns .* IMPHASH', "DeviceProcessEvents has no import hash"),
    (r'field "FileVersion" ', "DeviceProcessEvents has the product's version alone"),
    (r'field "(LogonId|ParentUser|TerminalSessionId)" ', "only Sysmon has it, or each in its own way"),
    (r'"LogonId" holds a number', "its column is a number, where Sysmon writes hexadecimal text"),
    (r'field "(sha1|md5|sha256)" ', "a form of Hashes that SigmaHQ has given up"),
    (r'field "(ParentOriginalFileName|Signed|Provider_Name)" ', "no field of a process creation anywhere"),
    (r'field "(eventSource|eventName|status)" .*no audit record has it', "names of no Office 365 record"),
    (
        r'field "ApplicationId" ',
        "sign-ins never reach OfficeActivity; the o365 integration has no name for it",
    ),
    (r"activities of Microsoft Entra never reach OfficeActivity", "the connector leaves them out"),
    (r'"Parameters" are fields of their own on Elastic', "the o365 integration keeps no text of them all"),
    (r"a value without a field would search every", "Kusto and Lucene would read every column"),
    (r"Lucene cannot compare two fields", "the query language lacks it"),
    (
        r'"CommandLine" \(here process.command_line\) holds text and no addresses',
        "no field of a process is one",
    ),
    (
        r"the regular expression is over Elasticsearch's limit of",
        "index.max_regex_length and determinisation",
    ),
    (r'regular expression of "process.command_line" cannot be said exactly in Lucene', "no \\b inside"),
    (r'"User" is \S+( and AccountDomain)? here', "no platform has DOMAIN\\name as one text"),
)


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]} rules")
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """How many rules are made, and how many of them are executed."""
    return int(request.param[0]), int(request.param[1])


@pytest.fixture(scope="module")
def community(size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> tuple[Pack, Built]:
    folder = tmp_path_factory.mktemp("community")
    for path in corpus.write(folder, size[0], SEED)[::WHOLE_TERMS_EACH]:
        path.write_text(path.read_text(encoding="utf-8") + "whole_terms: true\n", encoding="utf-8")
    findings: list[Finding] = []
    loaded = load_pack(ROOT, folder, findings)
    assert findings == []
    return loaded, make(loaded, keep_going=True)


def kept(community: tuple[Pack, Built]) -> list[Rule]:
    """The rules that every platform can say."""
    pack, built = community
    refused = {finding.path for finding in built.refused}
    return [rule for rule in pack.rules if str(rule.path) not in refused]


def test_most_rules_convert_and_the_others_have_a_known_reason(
    size: tuple[int, int], community: tuple[Pack, Built]
) -> None:
    pack, built = community
    rules = kept(community)
    assert len(pack.rules) == size[0] and len(rules) >= 0.85 * size[0]
    listed = entries(built)
    assert {name for name, entry in listed.items() if "absent" not in entry} == {rule.name for rule in rules}
    refused = {finding.path for finding in built.refused}
    for rule in pack.rules:
        # One that is refused on every platform is not listed, one that is refused on some says on which.
        entry = listed.get(rule.name, {"absent": PLATFORMS})
        assert (str(rule.path) in refused) == ("absent" in entry), rule.name
        for platform in PLATFORMS:
            ending = {"elastic": "lucene", "splunk": "spl"}.get(platform, "kql")
            path = f"{platform}/queries/{rule.name}.{ending}"
            assert (path in built.files) == (platform not in entry.get("absent", ())), path
    for finding in built.refused:
        assert ONE_LINE.match(str(finding)) and Path(finding.path).is_file()
        assert any(re.search(pattern, finding.what) for pattern, _ in REASONS), str(finding)
        assert 1 < finding.line <= len(Path(finding.path).read_text(encoding="utf-8").splitlines()) or (
            "without a field" in finding.what
        ), str(finding)


def entries(built: Built) -> dict[str, Mapping[str, Any]]:
    """The rules of the manifest, which are those that some platform can say, by name."""
    return {entry["name"]: entry for entry in json.loads(built.files["manifest.json"])["rules"]}


def on(platform: str, community: tuple[Pack, Built]) -> int:
    """How many rules the platform can say."""
    return sum(platform not in entry.get("absent", ()) for entry in entries(community[1]).values())


# ---- judged ----------------------------------------------------------------------------------------------


def texts(built: Built, pattern: str) -> dict[str, str]:
    return {path: content.decode() for path, content in built.files.items() if re.fullmatch(pattern, path)}


def test_microsofts_parser_has_nothing_to_say(community: tuple[Pack, Built]) -> None:
    require(kql_judge.available())
    _, built = community
    queries = texts(built, r"sentinel/.*\.kql")
    for path, text in texts(built, r"sentinel/analytics/.*\.yaml").items():
        queries[path] = yaml.safe_load(text)["query"]
    for path, text in texts(built, r"sentinel/azuredeploy.*\.json").items():
        for number, resource in enumerate(json.loads(text)["resources"]):
            queries[f"{path}#{number}"] = unescaped(resource["properties"])["query"]
    assert len(queries) >= 3 * on("sentinel", community)
    assert complaints(queries, SENTINEL_TABLES) == {}
    detections = texts(built, r"defender/.*\.kql")
    assert len(detections) == on("defender", community)
    assert complaints(detections, DEFENDER_TABLES) == {}


def complaints(queries: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    analysed = kql_judge.analyze(tables, queries)
    return {
        name: [str(d) for d in found.diagnostics] for name, found in analysed.items() if found.diagnostics
    }


def test_lucenes_parser_reads_every_query(community: tuple[Pack, Built]) -> None:
    require(lucene_judge.available())
    _, built = community
    queries = texts(built, r"elastic/queries/.*\.lucene")
    for line in built.files["elastic/rules.ndjson"].decode().splitlines():
        if (rule := json.loads(line)).get("language") == "lucene":
            queries[f"rules.ndjson#{rule['rule_id']}"] = rule["query"]
    assert len(queries) == 2 * on("elastic", community)
    assert {name: fault for name, fault in lucene_judge.parse(queries).items() if fault} == {}


def test_our_grammar_reads_every_search(community: tuple[Pack, Built]) -> None:
    """The plain searches and their other forms, and what stands in the app's savedsearches.conf."""
    _, built = community
    macros = macros_of(built.files["splunk/macros.conf"].decode())
    searches = texts(built, r"splunk/queries/.*\.spl")
    forms = {re.sub(r"^.*?(?=(\.tstats|\.raw)?\.spl$)", "", path) for path in searches}
    assert forms == {".spl", ".tstats.spl", ".raw.spl"}
    for text in searches.values():
        parse(text, macros)
    settings = app_conf(built)
    own = {name: stanza["definition"] for name, stanza in settings["macros.conf"].items()}
    saved = [stanza["search"] for stanza in settings["savedsearches.conf"].values() if "search" in stanza]
    assert len(saved) >= on("splunk", community)
    for text in saved:
        parse(text, own)


def app_conf(built: Built) -> dict[str, Mapping[str, Mapping[str, str]]]:
    (archive,) = (content for path, content in built.files.items() if path.endswith(".tgz"))
    found: dict[str, Mapping[str, Mapping[str, str]]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        for member in opened.getmembers():
            if member.name.endswith(("/default/macros.conf", "/default/savedsearches.conf")):
                file = opened.extractfile(member)
                assert file is not None
                found[Path(member.name).name] = read_conf(file.read().decode())
    return found


# ---- executed --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(size: tuple[int, int], community: tuple[Pack, Built]) -> dict[str, list[Event]]:
    """The events of each rule that is executed, by its name."""
    every = [r for r in kept(community) if r.logsource.get("category") == "process_creation"]
    # From one end of the list to the other: its names begin with the programs.
    chosen = [every[number * len(every) // size[1]] for number in range(size[1])]
    found: dict[str, list[Event]] = {}
    for rule in chosen:
        rng = random.Random(rule.name)
        found[rule.name] = [
            Event(f"{rule.name} {number}", PROCESS, record)
            for number, record in enumerate(records(rule.main.data["detection"], rng, EVENTS_EACH))
        ]
    return found


@pytest.fixture(scope="module")
def meant(community: tuple[Pack, Built], made: dict[str, list[Event]]) -> dict[str, set[str]]:
    """The events that each rule means, of all that were made."""
    pack, _ = community
    everything = [event for events in made.values() for event in events]
    found = {}
    for name in made:
        means = matcher(pack.rule(name).main.data["detection"], pack.rule(name).whole_terms)
        found[name] = {event.id for event in everything if means(event.record)}
    return found


def test_the_events_tell_the_rules_apart(
    size: tuple[int, int], made: dict[str, list[Event]], meant: dict[str, set[str]]
) -> None:
    """Nearly every rule has events of its own that it means and others that it does not."""
    assert len(made) == size[1]
    both = [n for n, events in made.items() if 0 < len(meant[n] & {e.id for e in events}) < len(events)]
    assert len(both) >= 0.85 * len(made)


def test_what_the_key_says_decides_events(
    community: tuple[Pack, Built], made: dict[str, list[Event]]
) -> None:
    """Of the rules of either kind that look for a piece, many have an event that tells the kinds apart."""
    told = {True: 0, False: 0}
    for name, events in made.items():
        rule = community[0].rule(name)
        terms, pieces = (matcher(rule.main.data["detection"], whole) for whole in (True, False))
        told[rule.whole_terms] += any(terms(event.record) != pieces(event.record) for event in events)
    assert min(told.values()) >= 0.1 * len(made) / WHOLE_TERMS_EACH, told


@pytest.mark.parametrize("schema", ["sentinel", "defender"])
def test_kql_finds_what_sigma_means(
    schema: str, community: tuple[Pack, Built], made: dict[str, list[Event]], meant: dict[str, set[str]]
) -> None:
    workspace = sentinel.Workspace([e for events in made.values() for e in events], schema=schema)
    for name in made if schema == "sentinel" else list(made)[::3]:
        path = f"{schema}/queries/{name}.kql"
        text = community[1].files[path].decode()
        (hit,) = sentinel.verdicts(workspace, text, RuleEntry(name), Clock(NOW), path)
        assert differences(hit.events, meant[name]) == {}, path


@pytest.mark.parametrize("form", ["", ".tstats", ".raw"])
def test_spl_finds_what_sigma_means(
    form: str, community: tuple[Pack, Built], made: dict[str, list[Event]], meant: dict[str, set[str]]
) -> None:
    files = community[1].files
    workspace = splunk.Workspace([e for events in made.values() for e in events])
    macros = macros_of(files["splunk/macros.conf"].decode())
    paths = {name: f"splunk/queries/{name}{form}.spl" for name in made}
    having = {name: path for name, path in paths.items() if path in files}
    assert len(having) >= 0.25 * len(made)
    for name, path in having.items():
        rows = workspace.search(files[path].decode(), macros, NOW)
        found = {event for row in rows for event in row.events}
        assert differences(found, meant[name]) == {}, path


def test_lucene_finds_what_sigma_means(
    community: tuple[Pack, Built], made: dict[str, list[Event]], meant: dict[str, set[str]]
) -> None:
    for names in grouped(list(made)):
        events = [event for name in names for event in made[name]]
        with Store(events) as store:
            for name in names:
                path = f"elastic/queries/{name}.lucene"
                found = store.lucene(community[1].files[path].decode())
                assert differences(found, meant[name] & {e.id for e in events}) == {}, path


def grouped(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER))


def differences(found: set[str] | frozenset[str], expected: set[str]) -> dict[str, str]:
    wrong = dict.fromkeys(found - expected, "is found and not meant")
    return wrong | dict.fromkeys(expected - found, "is meant and not found")


# ---- the folder ------------------------------------------------------------------------------------------


def test_the_corpus_is_the_same_every_time(tmp_path: Path) -> None:
    first, again = list(corpus.rules(40, 9)), list(corpus.rules(20, 9))
    assert first[:20] == again and list(corpus.rules(20, 8)) != again
    written = corpus.write(tmp_path, 40, 9)
    assert len({path.stem for path in written}) == 40
    assert [path.read_text(encoding="utf-8") for path in written] == [rule.text for rule in first]


PROBE = (
    "title: Probe\nid: {id}\nstatus: test\nlogsource: {{product: windows, category: process_creation}}\n"
    "detection:\n  selection: {{Image|endswith: '\\{image}.exe'}}\n  condition: selection\nlevel: low\n"
)


def test_a_folder_of_odd_names_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders in folders, both endings, odd names; two files with one name take their folders' too."""
    long = "proc_creation_win_" + "a_very_long_name_" * 4
    names = ["a/one.yml", "a/b/Two Words (v2).yaml", "7z.yml", "ümläut.yml", f"{long}x.yml", f"{long}y.yml"]
    names += ["a/same.yml", "b/same.yml", "notes.txt", "x.json"]
    rules = tmp_path / "rules"
    for number, name in enumerate(names):
        (rules / name).parent.mkdir(parents=True, exist_ok=True)
        identity = f"00000000-0000-4000-8000-{number:012}"
        (rules / name).write_text(PROBE.format(id=identity, image=f"p{number}"), encoding="utf-8")
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(rules), "--out", str(out), "--keep-going"]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    built = [rule["name"] for rule in json.loads((out / "manifest.json").read_text())["rules"]]
    assert len(built) == len(set(built)) == 8
    assert {"one", "two_words_v2", "rule_7z", "a_same", "b_same"} <= set(built)
    assert sum(name.startswith("proc_creation_win_a_very_long_name") for name in built) == 2

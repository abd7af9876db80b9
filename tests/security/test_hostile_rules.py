"""The trap: a rule that is more than a rule.

A quote that ends its literal, a title that closes a stanza, a name that leaves its folder, a value that takes
an hour. Every file of tests/hostile, and what is too large or too odd to be committed, is either refused,
with a line for each fault, or built; what is built is executed on every platform, out of the query files and
out of what is imported, and matches its own literal value and nothing else. Nothing is written outside the
output folder.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.cli import main
from detection_pack.languages.conf import read_conf
from detection_pack.languages.esql.esql_columns import IGNORE_ABOVE
from detection_pack.languages.spl.spl_parser import macros_of
from detection_pack.model import limits
from detection_pack.model.documents import MAX_BYTES
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.model.limits import MAX_VALUES
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import parse_time
from detection_pack.platforms.sentinel.arm import unescaped
from judges import kql_judge, lucene_judge, require
from platforms.splunk.test_splunk_app import packed, splunk_reads
from support.artefact_texts import kql_lets, spl_commands, spl_skeleton, strings_of
from support.engines import ENGINES, IMPORTS
from support.hostile_rules import FOLDER, GENERATED, NAMES, PLAIN, TIME, expectations, listed, rule_paths
from support.kibana_buttons import buttons, without_buttons
from support.sources import DEFENDER_TABLES, SENTINEL_TABLES

ONE_LINE = re.compile(r"\S.*:\d+: .+; .+")
SECONDS = 5
CONVERTED = [name for name, about in expectations().items() if about.refused is None]

NEXT_STEPS = "action.notable.param.next_steps"


def everything_below(folder: Path, out: Path) -> dict[str, object]:
    """Every file, link, pipe and folder but those of the build, with its content."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path == out or out in path.parents:
            continue
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = path.read_bytes() if plain else path.lstat().st_mode
    return found


def built(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    """Build ``folder/rules`` into ``folder/out``: the exit code and the lines of the errors.

    Whatever the rules are, it takes no longer than it may, writes nothing elsewhere and says only lines that
    can be printed.
    """
    out = folder / "out"
    before = everything_below(folder, out)
    start, cpu = time.monotonic(), time.process_time()
    code = main(["--root", str(ROOT), "build", "--rules", str(folder / "rules"), "--out", str(out), *more])
    # On a busy machine a second of work takes several; what waits for ever works for none.
    assert time.process_time() - cpu < SECONDS and time.monotonic() - start < 10 * SECONDS
    assert everything_below(folder, out) == before
    said = capsys.readouterr().err
    assert said == "" or said.endswith("\n")
    lines = said.split("\n")[:-1]
    assert all(line.isprintable() and ONE_LINE.fullmatch(line) for line in lines), lines
    lines = [line for line in lines if ": warning: " not in line]
    assert code == (1 if lines else 0)
    assert out.exists() == (code == 0 or bool(more))
    return code, lines


def test_there_are_enough_and_each_is_judged() -> None:
    stems = {path.stem for path in rule_paths()}
    assert stems == set(expectations())
    assert len(stems) >= 60
    assert len(CONVERTED) >= 60 and len(stems) - len(CONVERTED) >= 60
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in rule_paths())
    assert all(a.match and a.no_match for name in CONVERTED for a in [expectations()[name]])


@pytest.mark.parametrize("path", rule_paths(), ids=lambda path: path.stem)
def test_refused_with_one_line_or_built(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / path.name).write_bytes(path.read_bytes())
    code, lines = built(tmp_path, capsys)
    refused = expectations()[path.stem].refused
    assert code == (0 if refused is None else 1), lines
    if refused is not None:
        assert any(refused in line for line in lines), lines
        assert all(line.startswith(f"{tmp_path}/rules/{path.name}:") for line in lines)


@pytest.mark.parametrize("name", GENERATED)
def test_too_large_or_too_odd(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, refused = GENERATED[name]
    (tmp_path / "rules").mkdir()
    make(tmp_path / "rules" / "odd.yml")
    code, lines = built(tmp_path, capsys)
    if refused is None:
        assert code == 0, lines
    else:
        assert lines and all("SECRET" not in line for line in lines)
        assert any(refused in line for line in lines), lines
    # A link is refused, and not followed, when others are built.
    (tmp_path / "rules" / "plain.yml").write_text(PLAIN, encoding="utf-8")
    built(tmp_path, capsys, "--keep-going")
    assert not any(b"SECRET" in p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_the_largest_rules_that_are_allowed_are_built_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many values as fit: by their number, and by the 10,000 characters of a Sentinel query."""
    largest = {
        "repeated": ("OriginalFileName", MAX_VALUES, "a"),
        "equal": ("OriginalFileName", 610, "a{}"),
        "contained": ("CommandLine|contains", 186, "-v{}"),
        "pieces": ("OriginalFileName|contains", 135, "v{}"),
        "expressions": ("CommandLine|re", 115, "a{}[0-9]+b"),
        "wildcards": ("CommandLine", 100, "*a{}*b*c*d*"),
    }
    for name, (item, count, value) in largest.items():
        folder = tmp_path / name
        (folder / "rules").mkdir(parents=True)
        text = listed([f"'{value.format(i)}'" for i in range(count)], item)
        (folder / "rules" / f"{name}.yml").write_text(text, encoding="utf-8")
        assert built(folder, capsys) == (0, [])


@pytest.mark.parametrize("stem", NAMES)
def test_file_names(stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / f"{stem}.yml").write_text(PLAIN, encoding="utf-8")
    assert built(tmp_path, capsys) == (0, [])
    assert [entry.name for entry in rule_entries(tmp_path / "out")] == [NAMES[stem]]
    (tmp_path / "rules" / f"{stem}.yml").write_text("title: [", encoding="utf-8")
    code, lines = built(tmp_path, capsys, "--keep-going") if (tmp_path / "out").exists() else (1, [])
    assert code == 1 and len(lines) == 1


def test_names_that_would_meet_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Windows and macOS hold Probe.yml and probe.yml for one file."""
    (tmp_path / "rules" / "deep").mkdir(parents=True)
    for name in ("Probe.yml", "probe.yml", "pro be.yml", "pro-be.yml", "deep/probe.yaml"):
        (tmp_path / "rules" / name).write_text(PLAIN, encoding="utf-8")
    assert built(tmp_path, capsys) == (0, [])
    names = [entry.name for entry in rule_entries(tmp_path / "out")]
    assert len({name.lower() for name in names}) == 5 and "deep_probe" in names
    assert sorted(name.partition("_")[0] for name in names) == ["deep", "pro", "pro", "probe", "probe"]


def test_one_id_for_two_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In forms that only Python takes for the same."""
    (tmp_path / "rules").mkdir()
    for name, identifier in (
        ("first", "0e9d8c7b-1234-4abc-8def-0123456789ab"),
        ("second", "{URN:UUID:0E9D8C7B12344ABC8DEF0123456789AB}".lower()),
    ):
        text = PLAIN.replace("title:", f'id: "{identifier}"\ntitle:')
        (tmp_path / "rules" / f"{name}.yml").write_text(text, encoding="utf-8")
    _, lines = built(tmp_path, capsys)
    assert len(lines) == 1 and "the id is that of the rule" in lines[0]


@pytest.mark.parametrize("inner", ["rules", "out", "same"])
def test_rules_and_output_are_apart(inner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A build replaces its output whole: rules in there would be gone, and output in there read as rules."""
    rules = tmp_path / ("out/rules" if inner == "rules" else "rules")
    out = {"rules": tmp_path / "out", "out": rules / "out", "same": rules}[inner]
    rules.mkdir(parents=True)
    (rules / "plain.yml").write_text(PLAIN, encoding="utf-8")
    before = everything_below(tmp_path, Path("/nowhere"))
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "build", "--rules", str(rules), "--out", str(out)])
    assert stopped.value.code == 2
    assert re.fullmatch(r"error: \S.+; .+\n", capsys.readouterr().err)
    assert everything_below(tmp_path, Path("/nowhere")) == before


def test_output_through_a_link_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "plain.yml").write_text(PLAIN, encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "build", "--rules", f"{tmp_path}/rules", "--out", f"{tmp_path}/out"])
    assert stopped.value.code == 2 and "is not a folder" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- what was built ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build of all that every platform can say. What one refuses another may say: a build of all the
    files goes on, and states for each rule which has none of it."""
    folder = tmp_path_factory.mktemp("hostile")
    everything = ["--root", str(ROOT), "build", "--rules", str(FOLDER), "--out", str(folder / "all")]
    assert main([*everything, "--keep-going"]) == 1
    listed = json.loads((folder / "all" / "manifest.json").read_text(encoding="utf-8"))["rules"]
    assert [rule["name"] for rule in listed if "absent" not in rule] == CONVERTED
    (folder / "rules").mkdir()
    for name in CONVERTED:
        shutil.copy(FOLDER / f"{name}.yml", folder / "rules")
    out = folder / "out"
    assert main(["--root", str(ROOT), "build", "--rules", str(folder / "rules"), "--out", str(out)]) == 0
    return out


#: The rules whose artefacts are executed in the ordinary run: every eighth, and the correlations.
SAMPLE = {n for i, n in enumerate(CONVERTED) if i % 8 == 0 or expectations()[n].correlation}


@pytest.fixture(scope="module")
def hits(dist: Path, pytestconfig: pytest.Config) -> dict[str, list[Hit]]:
    """What every artefact finds among the events of all rules that are executed, by rule."""
    names = set(CONVERTED) if pytestconfig.getoption("--campaigns") else SAMPLE
    events = [e for case in cases(names).values() for e in case]
    moment = parse_time(TIME)
    assert moment is not None
    clock = Clock(moment + timedelta(seconds=1), "1d")
    entries = [entry for entry in rule_entries(dist) if entry.name in names]
    found: dict[str, list[Hit]] = {entry.name: [] for entry in entries}
    for platform in PLATFORMS:
        for run in (ENGINES[platform], IMPORTS[platform]):
            for hit in run(dist, entries, events, clock):
                found[hit.rule].append(hit)
    return found


def cases(names: Collection[str]) -> dict[str, tuple[Event, ...]]:
    return {case: events for n in sorted(names) for case, events in expectations()[n].events(n).items()}


def alerted(hits: Sequence[Hit], own: Mapping[str, tuple[Event, ...]]) -> dict[str, set[str]]:
    """The cases that each artefact alerts on: one of its events, or its group."""
    found: dict[str, set[str]] = {hit.artefact: set() for hit in hits}
    for hit in hits:
        groups = {value for _, value in hit.group or ()}
        found[hit.artefact] |= {
            case
            for case, events in own.items()
            if any(event.id in hit.events for event in events)
            or (groups & {str(event.record["UserKey"]) for event in events if hit.group})
        }
    return found


@pytest.mark.parametrize(
    "name",
    [
        *sorted(SAMPLE),
        *(pytest.param(name, marks=pytest.mark.campaign, id=f"{name} among all") for name in CONVERTED),
    ],
)
def test_it_matches_its_own_value_and_nothing_else(name: str, hits: dict[str, list[Hit]]) -> None:
    expected = expectations()[name]
    own = expected.events(name)
    found = alerted(hits[name], own)
    if expected.correlation:
        found = {a: cases for a, cases in found.items() if not a.endswith(".threshold.json")}
        assert any(a.endswith(".spl") for a in found) and any(a.endswith(".esql") for a in found)
    else:
        endings = {artefact.split("#")[0].rsplit(".", 1)[-1] for artefact in found}
        assert endings >= {"kql", "spl", "lucene", "yaml", "json", "ndjson"}, endings
    wanted = {case for case in own if case.startswith(f"{name}:+")}
    assert {a: cases for a, cases in found.items() if cases != wanted} == {}
    # And of the events that belong to other rules, all artefacts find the same ones.
    assert expected.correlation or len({hit.events for hit in hits[name]}) == 1


def texts(dist: Path, pattern: str) -> dict[str, str]:
    found = {p.relative_to(dist).as_posix(): p.read_bytes().decode() for p in sorted(dist.glob(pattern))}
    assert len(found) >= 60 or "azuredeploy" in pattern
    return found


def kql_queries(dist: Path) -> dict[str, str]:
    """Every KQL query for Sentinel: the files, and those inside what is imported."""
    analytics = {p: yaml.safe_load(t)["query"] for p, t in texts(dist, "sentinel/analytics/*.yaml").items()}
    deployed = {
        f"{path} {resource['properties']['displayName']}": unescaped(resource["properties"])["query"]
        for path, text in texts(dist, "sentinel/azuredeploy/*.json").items()
        for resource in json.loads(text)["resources"]
    }
    return texts(dist, "sentinel/queries/*.kql") | analytics | deployed


@pytest.mark.parametrize(
    "names",
    [SAMPLE, pytest.param(None, marks=pytest.mark.campaign)],
    ids=["some rules", "all rules and the template"],
)
def test_kql_is_one_query_with_its_parameters_and_microsoft_finds_nothing(
    names: Collection[str] | None, dist: Path
) -> None:
    require(kql_judge.available())
    for tables, queries in (
        (SENTINEL_TABLES, kql_queries(dist)),
        (DEFENDER_TABLES, texts(dist, "defender/queries/*.kql")),
    ):
        knob = r"LookbackPeriod|SettleTime|Alerted|\w+(?:Window|Step|Threshold|Bursts)"
        judged = {p: text for p, text in queries.items() if names is None or Path(p).stem in names}
        assert len(judged) >= len(names or CONVERTED)
        for name, analysis in kql_judge.analyze(tables, judged).items():
            assert analysis.diagnostics == (), f"{name}: {analysis.diagnostics[0]}"
            shown = [column.name for column in analysis.columns]
            assert {"UserId", "ClientIP", "ClientAgent", "DetectionType", "DetectionDetail"} < set(shown)
            lets, statements = kql_lets(queries[name])
            assert statements == len(lets) + 1, name
            assert all(re.fullmatch(knob, let) for let in lets), name


def test_lucene_parses_every_query(dist: Path) -> None:
    require(lucene_judge.available())
    verdicts = lucene_judge.parse(texts(dist, "elastic/queries/*.lucene"))
    assert {name: fault for name, fault in verdicts.items() if fault} == {}


def test_spl_has_only_the_commands_and_macros_of_the_pack(dist: Path) -> None:
    macros = macros_of((dist / "splunk" / "macros.conf").read_text(encoding="utf-8"))
    assert len(macros) == len({*macros}) and all(re.fullmatch(r"\w+", name) for name in macros)
    for name, text in texts(dist, "splunk/queries/*.spl").items():
        assert all(c.isprintable() or c == "\n" for c in text) and "$" not in text, name
        skeleton = spl_skeleton(text)
        assert set(re.findall(r"`([^`]*)`", skeleton)) <= macros.keys(), name
        assert text.count("`") == skeleton.count("`"), name
        assert not set("[]{}#;'") & set(skeleton), name
        allowed = {"eval", "where", "table", "stats", "bin", "tstats", "rename", "fields", "mvexpand"}
        assert {c for c in spl_commands(text) if c[0] != "`"} <= allowed, name


def test_the_app_holds_its_own_files_stanzas_and_keys(dist: Path) -> None:
    [path] = (dist / "splunk").glob("*.tgz")
    [shipped] = (DIST / "splunk").glob("*.tgz")
    files, known = packed(path), packed(shipped)
    # The allow-list is named after the folder of the rules, as the app is.
    own = {name.replace("remote_email_collection", "rules") for name in known}
    assert files.keys() == own
    searches = {Path(name).name.removesuffix(".spl") for name in texts(dist, "splunk/queries/*.spl")}
    alerts = read_conf(known["default/savedsearches.conf"]).values()
    # What to do after an alert is in the playbook of the pack's own rules.
    shapes = {frozenset(s.keys() - {NEXT_STEPS}) for s in alerts if s["enableSched"] == "1"}
    for read in (read_conf, splunk_reads):
        found = read(files["default/savedsearches.conf"])
        assert set(found) == searches
        for name, settings in found.items():
            assert frozenset(settings.keys()) in shapes, name
            query = (dist / f"splunk/queries/{name}.spl").read_bytes().decode()
            assert without_the_apps_lines(name, settings["search"] + "\n") == without_repeated_windows(query)
            assert (settings["disabled"], settings["enableSched"]) == ("1", "1")
            actions = "\n".join(v for k, v in settings.items() if k.startswith("action."))
            tokens = set(re.findall(r"\$([^$\s]+)\$", actions))
            columns = {"UserId", "ClientIP", "DetectionDetail"}
            assert tokens <= columns | {"AlertKey", "info_min_time", "info_max_time"}, name
            assert actions.count("$") <= 16 + 2 * actions.count("$ "), name
            for key in ("correlationsearch.annotations", "correlationsearch.metadata", "risk.param._risk"):
                json.loads(settings[f"action.{key}"])
            for key in ("_entities", "drilldown_searches"):
                json.loads(settings[f"action.notable.param.{key}"])
        assert set(read(files["default/macros.conf"])) == set(macros_of(files["default/macros.conf"]))
        assert read(files["default/app.conf"]).keys() == read(known["default/app.conf"]).keys()
    json.loads(files["app.manifest"])


#: What a scheduled search asks of a correlation besides, each by the whole of its line or aggregate.
SCHEDULED = [
    r'\| addinfo\n\| where _indextime<relative_time\(info_max_time,"-5m@m"\)\n'
    r'\| eval arrived_before=if\(_indextime<relative_time\(info_max_time,"-65m@m"\),1,0\)\n',
    r"(?<=first_seen), arrived_before|(?<=matched_rule), arrived_before",
    r", (?:sum\(arrived_before\)|(?:dc|sum|avg)\(eval\(if\(arrived_before=1,\w+,null\(\)\)\)\))"
    r" AS count_before"
    r", sum\(arrived_before\) AS rows_before"
    r"(?:, min\(eval\([^\n]*\)\) AS earliest_first_before"
    r", max\(eval\([^\n]*\)\) AS latest_second_before)?",
    r"\| eval alerted_before=if\(rows_before>0 AND count_before[^\n]*,1,0\)\n",
    r"\| sort 0 _time\n\| streamstats [^\n]*\n\| eval burst_begins=[^\n]*\n\| streamstats [^\n]*\n"
    r"\| eventstats [^\n]*\n\| where burst_begins=1 AND alerted_before=0\n",
    r"\| where alerted_before=0\n",
]
#: Whom and what a result is about, from columns.
NAMED = r'\| eval (?:(?:, )?(?:user|src|dest)=(?:UserId|ClientIP|split\((?:UserId|ClientIP), ", "\)))+\n'


def without_the_apps_lines(name: str, search: str) -> str:
    """A search without what the app adds to the query: the key of an alert, whom it is about, of a data set
    the order, of a correlation what has not alerted before and, where windows overlap, what leaves out the
    window which the look-back may have cut."""
    if search.startswith("| tstats "):
        assert search.endswith("\n| sort 0 -_time\n"), name
        search = search.removesuffix("| sort 0 -_time\n")
    step = f"`{name}_step`"
    edge = f"| addinfo\n| where _time-{step}>=`{name}_since`\n"
    assert search.count(edge) == search.count("_since`") == (1 if step in search else 0), name
    (made,) = re.findall(r"\| eval AlertKey=[^\n]*\n", search)
    search = search.replace(edge, "").replace(made, "")
    search, found = re.subn(NAMED, "", search)
    search, shown = re.subn(r"(?:, (?:user|src|dest))*, AlertKey\n", "\n", search)
    assert (found <= 1, shown) == (True, 1), name
    for added in SCHEDULED:
        search = re.sub(added, "", search)
    assert "_before" not in search and "info_max_time" not in search, name
    return search


def without_repeated_windows(query: str) -> str:
    """A query without what leaves the first of windows one after the other, for which a schedule looks at the
    whole burst."""
    return re.sub(r"\| eval steps_on=mvrange\(0, 2\)\n.*?\| where steps_on=0\n", "", query, flags=re.DOTALL)


def titles(dist: Path) -> dict[str, str]:
    return {r["name"]: r["title"] for r in json.loads((dist / "manifest.json").read_text())["rules"]}


def test_arm_evaluates_two_strings_a_rule_and_no_more(dist: Path) -> None:
    shown = []
    workspace = r"(?:resourceId\([^()]*\(?[^()]*\)?[^()]*\)|parameters\('workspace'\))"
    identity = rf"\[concat\({workspace},'/[\w./]*/[0-9a-f-]{{36}}'\)\]"
    for text in texts(dist, "sentinel/azuredeploy/*.json").values():
        document = json.loads(text)
        assert document.keys() == {"$schema", "contentVersion", "metadata", "parameters", "resources"}
        assert document["metadata"] == {"description": "Rules of rules"}
        for resource in document["resources"]:
            evaluated = [s for s in strings_of(resource) if s[:1] == "[" and s[-1:] == "]" and s[:2] != "[["]
            assert evaluated == [resource["id"], resource["name"]]
            assert all(re.fullmatch(identity, expression) for expression in evaluated), evaluated
            shown.append(unescaped(resource["properties"])["displayName"])
    assert sorted(shown) == sorted(titles(dist).values())


def test_analytics_rules_say_what_the_rule_says(dist: Path) -> None:
    [known, *_] = (yaml.safe_load(p.read_text()) for p in sorted(DIST.glob("sentinel/analytics/*.yaml")))
    for path, text in texts(dist, "sentinel/analytics/*.yaml").items():
        [document] = yaml.safe_load_all(text)
        assert {*document, "entityMappings"} == known.keys(), path
        assert document["name"] == titles(dist)[Path(path).stem]
        assert document["kind"] == "Scheduled"
        formats = document["alertDetailsOverride"].values()
        assert {n for f in formats for n in re.findall(r"\{\{(.*?)\}\}", f)} <= {"UserId", "DetectionDetail"}
        assert all(f.count("{{") <= 1 for f in formats), path


def test_kibana_rules_are_a_line_each_and_their_guides_run_nothing(dist: Path) -> None:
    lines = (dist / "elastic" / "rules.ndjson").read_bytes().split(b"\n")
    assert lines.pop() == b""
    *rules, summary = map(json.loads, lines)
    assert summary["exported_rules_count"] == len(rules)
    assert len({rule["rule_id"] for rule in rules}) == len(rules)
    assert {tag for r in rules for tag in r["tags"] if tag.startswith("Sigma rule: ")} == {
        f"Sigma rule: {name}" for name in titles(dist)
    }
    for rule in rules:
        shown = [rule["name"], rule["description"], rule["note"], rule["setup"], *rule["tags"]]
        assert all(c.isprintable() or c == "\n" for text in shown for c in text)
        assert rule["actions"] == [] and rule["enabled"] is False
        assert len(buttons(rule["note"])) <= 2
        for guide in (without_buttons(rule["note"]), rule["setup"]):
            assert not re.search(r"\{\{|!\{|<|\]\(|javascript:(?!alert)", guide), rule["name"]
        assert all(re.match(r"https?://", url) for url in rule["references"])


def test_the_manifest_names_files_of_the_build_alone(dist: Path) -> None:
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    listed = [a["path"] for r in manifest["rules"] for a in r["artefacts"]]
    listed += [a["path"] for a in manifest["artefacts"]]
    assert sorted(listed) == sorted(
        p.relative_to(dist).as_posix() for p in dist.rglob("*") if p.is_file() and p.name != "manifest.json"
    )
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", path) and ".." not in path for path in listed)
    for rule in manifest["rules"]:
        assert re.fullmatch(r"[0-9a-f-]{36}|", rule["id"]), rule["id"]


def test_the_documented_limits_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    for number in (
        limits.MAX_RULE_BYTES,
        MAX_BYTES,
        limits.MAX_VALUES,
        limits.MAX_VALUE_LENGTH,
        limits.MAX_WILDCARDS,
        limits.MAX_CONDITION_LENGTH,
        limits.MAX_NAME_LENGTH,
        limits.MAX_PATTERN_WILDCARDS,
        limits.MAX_COUNT,
        IGNORE_ABOVE,
    ):
        assert any(f"{number:,}" in line for line in table), number

"""The trap: a release that takes something from its users under a version that says it does not.

A pull request that narrows a rule may drop the event that would show it, change only what is imported, or
hide in a pipeline. Each change here is made in a git repository of its own; the report, the version that it
asks for and the verdicts that it lists are compared with what was changed. And a rule's text may try to write
the report: what reviewers read must be ours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from detection_pack.cli import main
from detection_pack.diff import comparison
from detection_pack.diff.changed_verdicts import VerdictChange
from detection_pack.diff.versions import Bump, raised, version_of
from detection_pack.languages.spl.spl_characters import FORMER_END, FORMER_START, TERM_END, TERM_START
from support.checkout import copy_of_the_sources, core_alone, snapshot

CLIENT, CMDLET, BULK = "suspicious_ews_client", "exchange_admin_cmdlet", "bulk_cross_mailbox_access"
PLATFORMS = {"sentinel", "defender", "splunk", "elastic"}


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one commit holds three rules, their build, and few enough events to be quick."""
    root = core_alone(copy_of_the_sources(tmp_path_factory.mktemp("base") / "pack"))
    project = root / "pyproject.toml"
    stated = re.sub(r'(?m)^version = ".*"', 'version = "1.0.0"', project.read_text(encoding="utf-8"))
    project.write_text(stated, encoding="utf-8")
    for tier in ("extended", "hunting"):
        shutil.rmtree(root / "sigma" / tier)
    (root / "sigma" / "core" / "onprem_powershell_collection.yml").unlink()
    (root / "tests" / "events" / "onprem_powershell_collection.yml").unlink()
    for name in (CLIENT, CMDLET, BULK):
        with changed_yaml(root / "tests" / "events" / f"{name}.yml") as events:
            events["match"], events["no_match"] = events["match"][:4], events["no_match"][:4]
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## 1.0.0\n\n- All.\n", encoding="utf-8")
    assert main(["--root", str(root), "build"]) == 0
    git(root, "init", "-q")
    commit(root)
    return root


@pytest.fixture
def root(base: Path, tmp_path: Path) -> Path:
    """A clone to change, with the base at HEAD."""
    shutil.copytree(base, tmp_path / "pack")
    return tmp_path / "pack"


class changed_yaml:
    """A YAML file as plain data, written back when the block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        self.data = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        return self.data

    def __exit__(self, *_: object) -> None:
        text = yaml.safe_dump(self.data, allow_unicode=True, sort_keys=False)
        # The pack reads days as the text that was written.
        self.path.write_text(re.sub(r"^(date: )(.*)$", r"\1\2", text, flags=re.MULTILINE), encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def rule_file(root: Path, name: str) -> Path:
    return root / "sigma" / "core" / f"{name}.yml"


def events_of(root: Path, name: str) -> Path:
    return root / "tests" / "events" / f"{name}.yml"


Said = tuple[int, str, list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """``diff`` in a pack: exit code, standard output, lines of standard error."""

    def run_diff(root: Path, *arguments: str) -> Said:
        capsys.readouterr()
        try:
            code: Any = main(["--root", str(root), "diff", *arguments])
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    yield run_diff


def report_of(run: Any, root: Path) -> dict[str, Any]:
    code, out, err = run(root, "HEAD", "--format", "json")
    assert (code, err) == (0, [])
    report: dict[str, Any] = json.loads(out)
    return report


def reasons(rule: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(reason["bump"], reason["why"]) for reason in rule["reasons"]}


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(comparison, "changed_verdicts", refuse)


# -- what needs no engine ------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_engine")
def test_nothing_and_a_new_version_alone_change_nothing(root: Path, run: Any) -> None:
    before = snapshot(root)
    assert report_of(run, root)["bump"] == "none"
    assert snapshot(root) == before  # nothing is written, in git's folder neither
    edit(root / "pyproject.toml", 'version = "1.0.0"', 'version = "7.0.0"')
    report = report_of(run, root)
    assert (report["bump"], report["rules"], report["shared"], report["tests"]) == ("none", [], [], [])
    assert run(root, "HEAD", "--check")[0] == 0
    edit(root / "pyproject.toml", 'version = "7.0.0"', 'version = "0.9.0"')
    code, _, err = run(root, "HEAD", "--check")
    assert code == 1 and len(err) == 1 and "the version 0.9.0 is too low" in err[0]


@pytest.mark.usefixtures("no_engine")
def test_words_are_a_patch(root: Path, run: Any) -> None:
    edit(rule_file(root, CLIENT), "title: Scripted Client Reading", "title: A Script That Reads")
    edit(rule_file(root, CMDLET), "references:\n", "references:\n  - https://example.com/new\n")
    report = report_of(run, root)
    assert (report["bump"], report["required_version"]) == ("patch", "1.0.1")
    rules = {rule["name"]: rule for rule in report["rules"]}
    assert {name: reasons(rule) for name, rule in rules.items()} == {
        CLIENT: {("patch", "its words change")},
        CMDLET: {("patch", "its words change")},
    }
    titles = [(v["before"], v["after"]) for v in rules[CLIENT]["about"] if v["of"] == "title"]
    assert titles == [
        ("Scripted Client Reading Exchange Mailboxes", "A Script That Reads Exchange Mailboxes")
    ]
    assert f"sentinel/queries/{CLIENT}.kql" in {query["path"] for query in rules[CLIENT]["queries"]}
    assert rules[CMDLET]["queries"] == []
    assert rules[CMDLET]["other_files"] == ["elastic/rules.ndjson: query"]
    assert not [rule for rule in rules.values() if rule["verdicts"] or rule["notices"]]


@pytest.mark.usefixtures("no_engine")
def test_events_alone_change_nothing_for_users(root: Path, run: Any) -> None:
    with changed_yaml(events_of(root, CLIENT)) as events:
        events["match"][0]["title"] = "the same record under another title"
        events["no_match"].pop()
        events["no_match"] += [{"title": "one", "record": {"ClientInfoString": "a"}}]
        events["no_match"] += [{"title": "two", "record": {"ClientInfoString": "b"}}]
    report = report_of(run, root)
    assert (report["bump"], report["rules"]) == ("none", [])
    assert report["tests"] == [{"rule": CLIENT, "added": 2, "removed": 1}]
    assert run(root, "HEAD", "--check")[0] == 0


@pytest.mark.usefixtures("no_engine")
def test_rules_removed_added_and_moved(root: Path, run: Any) -> None:
    renamed = "mailbox_cmdlet"
    rule_file(root, CMDLET).rename(rule_file(root, renamed))
    edit(rule_file(root, renamed), f"name: {CMDLET}", f"name: {renamed}")
    events_of(root, CMDLET).rename(events_of(root, renamed))
    edit(events_of(root, renamed), f"rule: {CMDLET}", f"rule: {renamed}")
    (root / "sigma" / "hunting").mkdir()
    rule_file(root, CLIENT).rename(root / "sigma" / "hunting" / f"{CLIENT}.yml")
    (root / "sigma" / "extended").mkdir()
    rule_file(root, BULK).rename(root / "sigma" / "extended" / f"{BULK}.yml")
    report = report_of(run, root)
    rules = {rule["name"]: rule for rule in report["rules"]}
    assert (report["bump"], report["required_version"]) == ("major", "2.0.0")
    assert {name: rule["kind"] for name, rule in rules.items()} == {
        CMDLET: "removed", renamed: "added", CLIENT: "changed", BULK: "changed",
    }  # fmt: skip
    assert reasons(rules[CMDLET]) == {("major", "removed")} and renamed in rules[CMDLET]["notices"][0]
    assert reasons(rules[renamed]) == {("minor", "added to the core tier")}
    assert reasons(rules[BULK]) == {("major", "moves from the core tier to the extended tier")}
    assert ("major", "moves from the core tier to the hunting tier") in reasons(rules[CLIENT])
    # Of the hunting tier there is no analytics rule, but a hunting query; Defender's query stays, and hunters
    # have a file of it besides.
    assert ("major", f"sentinel/analytics/{CLIENT}.yaml is removed") in reasons(rules[CLIENT])
    for here in ("sentinel", "defender"):
        assert ("minor", f"{here}/hunting/{CLIENT}.yaml is added") in reasons(rules[CLIENT])
    detection = ("major", f"defender/detections/{CLIENT}.json is removed")
    assert detection in reasons(rules[CLIENT])
    assert len([why for _, why in reasons(rules[CLIENT]) if why.startswith("defender/")]) == 2
    for name, missing in ((CMDLET, "after"), (renamed, "before")):
        assert len(rules[name]["queries"]) == 4
        assert all(q[missing] is None and len(q["path"]) for q in rules[name]["queries"])
    assert CMDLET in report["changelog"] and renamed in report["changelog"]


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(
    ("name", "old", "new", "bump", "why"),
    [
        (CLIENT, "level: high", "level: high\nlookback: 12h", "major", "look-back 24h to 12h"),
        (CLIENT, "level: high", "level: high\nlookback: 2d", "minor", "look-back 24h to 2d"),
        (CLIENT, "level: high", "level: high\nlookback: 1d", "", ""),
        (CLIENT, "level: high", "level: low", "minor", "level high to low"),
        (CLIENT, "type: Suspicious EWS Client", "type: X", "minor", "the columns of its alerts change"),
        (
            CMDLET,
            "id: 6f0b8a5e-3b0c-4c83-9c0e-2f6c9d0d5a11",
            "id: 6f0b8a5e-3b0c-4c83-9c0e-2f6c9d0d5a12",
            "major",
            "another id: an import makes a second rule beside the old one",
        ),
    ],
)
def test_what_a_rule_says_besides(
    root: Path, run: Any, name: str, old: str, new: str, bump: str, why: str
) -> None:
    edit(rule_file(root, name), old, new)
    report = report_of(run, root)
    if why:
        [rule] = report["rules"]
        assert (bump, why) in reasons(rule) and rule["name"] == name
        assert report["bump"] == bump
    else:
        assert report["bump"] in ("none", "patch", "minor") and "major" not in str(report["rules"])


@pytest.mark.usefixtures("no_engine")
def test_gate_asks_for_version_and_changelog(root: Path, run: Any) -> None:
    rule_file(root, CLIENT).unlink()
    events_of(root, CLIENT).unlink()
    edit(rule_file(root, CMDLET), "level: high", "level: low")
    code, out, err = run(root, "HEAD", "--check")
    assert code == 1 and f"- `{CLIENT}` (Scripted Client Reading Exchange Mailboxes): removed." in out
    assert [re.sub(r"^.*/", "", line) for line in err] == [
        "pyproject.toml:7: the version 1.0.0 is too low: major since 1.0.0; write 2.0.0",
        'CHANGELOG.md:1: has no section "## 2.0.0"; write it; detection-pack diff prints a draft',
    ]
    draft = report_of(run, root)["changelog"]
    edit(root / "pyproject.toml", 'version = "1.0.0"', 'version = "2.0.0"')
    edit(root / "CHANGELOG.md", "## 1.0.0", f"## 2.0.0\n\n- `{CMDLET}`: less.\n\n## 1.0.0")
    code, out, err = run(root, "HEAD", "--check")
    assert code == 1 and len(err) == 1
    assert f'CHANGELOG.md:3: the section "## 2.0.0" does not name {CLIENT};' in err[0]
    edit(root / "CHANGELOG.md", f"- `{CMDLET}`: less.", draft.split("\n\n", 1)[1])
    assert run(root, "HEAD", "--check")[::2] == (0, [])
    assert run(root, "HEAD")[0] == 0
    # A version that is higher than it must be needs its own section.
    edit(root / "pyproject.toml", 'version = "2.0.0"', 'version = "2.1.0"')
    assert 'has no section "## 2.1.0"' in run(root, "HEAD", "--check")[2][0]


# -- the layout of an earlier version -------------------------------------------------------------------


def as_version_1_1(root: Path) -> None:
    """dist/ as version 1.1 laid it out: Defender's queries in defender/ itself, one template for all rules,
    and the ends of a term in SPL as lookarounds that stand for characters."""
    dist = root / "dist"
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    for artefact in (a for entry in manifest["rules"] for a in entry["artefacts"]):
        path = artefact["path"].replace("defender/queries/", "defender/")
        (dist / artefact["path"]).rename(dist / path)
        artefact["path"] = path
    templates = sorted((dist / "sentinel" / "azuredeploy").glob("*.json"))
    whole = json.loads(templates[0].read_text(encoding="utf-8"))
    whole["resources"] = [
        r for t in templates for r in json.loads(t.read_text(encoding="utf-8"))["resources"]
    ]
    shutil.rmtree(dist / "sentinel" / "azuredeploy")
    (dist / "sentinel" / "azuredeploy.json").write_text(json.dumps(whole), encoding="utf-8")
    listed = [a for a in manifest["artefacts"] if not a["path"].startswith("sentinel/azuredeploy/")]
    manifest["artefacts"] = [*listed, {"path": "sentinel/azuredeploy.json", "sha256": ""}]
    (dist / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    path = dist / "splunk" / "queries" / f"{CMDLET}.spl"
    text = path.read_text(encoding="utf-8")
    assert TERM_START in text and TERM_END in text
    path.write_text(text.replace(TERM_START, FORMER_START).replace(TERM_END, FORMER_END), encoding="utf-8")


def test_a_base_of_an_earlier_layout_is_executed_and_only_what_moved_is_said(root: Path, run: Any) -> None:
    as_version_1_1(root)
    commit(root)
    report = report_of(run, root)
    rules = {rule["name"]: rule for rule in report["rules"]}
    moves = {
        name: ("major", f"defender/{name}.kql moves to defender/queries/{name}.kql")
        for name in (CLIENT, CMDLET, BULK)
    }
    unseen = ("minor", "a query changes, and no test event shows what that does")
    assert {name: reasons(rule) for name, rule in rules.items()} == {
        CLIENT: {moves[CLIENT]},
        CMDLET: {moves[CMDLET], unseen},
        BULK: {moves[BULK]},
    }
    # Both builds were executed, the moved query and the split template too, and found the same.
    assert not [rule["verdicts"] for rule in rules.values() if rule["verdicts"]]
    assert [query["path"] for rule in rules.values() for query in rule["queries"]] == [
        f"splunk/queries/{CMDLET}.spl"
    ]
    assert report["shared"] == [
        {"path": "sentinel/azuredeploy.json", "kind": "removed"},
        {"path": "sentinel/azuredeploy/Office365.json", "kind": "added"},
    ]
    draft = report["changelog"]
    assert "`sentinel/azuredeploy.json` removed, `sentinel/azuredeploy/Office365.json` added" in draft


def test_what_a_moved_query_no_longer_finds_is_lost(root: Path, run: Any) -> None:
    as_version_1_1(root)
    commit(root)
    edit(rule_file(root, CMDLET), "- Search-Mailbox\n", "- Search-Nothing\n")
    found = {rule["name"]: rule for rule in report_of(run, root)["rules"]}[CMDLET]
    lost = {v["platform"]: set(v["artefacts"]) for v in found["verdicts"] if v["lost"]}
    assert set(lost) == PLATFORMS
    assert lost["defender"] == {f"defender/queries/{CMDLET}.kql", f"defender/detections/{CMDLET}.json"}
    assert "sentinel/azuredeploy.json to sentinel/azuredeploy/Office365.json" in lost["sentinel"]
    texts = {query["path"]: query for query in found["queries"]}
    assert texts[f"defender/queries/{CMDLET}.kql"]["formerly"] == f"defender/{CMDLET}.kql"
    code, out, _ = run(root, "HEAD")
    assert code == 0 and f"--- dist/defender/{CMDLET}.kql" in out


# -- what the engines show -----------------------------------------------------------------------------


def test_narrowed_on_every_platform_though_its_event_is_dropped(root: Path, run: Any) -> None:
    edit(rule_file(root, CLIENT), "      - python-requests\n", "")
    with changed_yaml(events_of(root, CLIENT)) as events:
        found = [case for case in events["match"] if "python-requests" in str(case)]
        assert found
        kept = [case for case in events["match"] if case not in found]
        events["match"] = kept
    report = report_of(run, root)
    [rule] = report["rules"]
    assert (report["bump"], rule["notices"]) == ("major", [])
    lost = {(v["platform"], v["case"]) for v in rule["verdicts"] if v["lost"] and not v["gained"]}
    assert lost == {(platform, case["title"]) for platform in PLATFORMS for case in found}
    artefacts = {artefact for v in rule["verdicts"] for artefact in v["artefacts"]}
    for path in (
        f"sentinel/queries/{CLIENT}.kql",
        f"defender/queries/{CLIENT}.kql",
        f"sentinel/analytics/{CLIENT}.yaml",
    ):
        assert path in artefacts
    assert f"splunk/queries/{CLIENT}.spl" in artefacts and f"elastic/queries/{CLIENT}.lucene" in artefacts


def test_widened_and_unexplained(root: Path, run: Any) -> None:
    edit(rule_file(root, CLIENT), "      - EWSEditor\n", "      - EWSEditor\n      - evilclient\n")
    edit(
        rule_file(root, CMDLET),
        "      - New-MailboxSearch\n",
        "      - New-MailboxSearch\n      - Get-Nothing\n",
    )
    with changed_yaml(events_of(root, CLIENT)) as events:
        events["match"] += [{"title": "a new one", "record": {"ClientInfoString": "x;EvilClient;"}}]
    report = report_of(run, root)
    rules = {rule["name"]: rule for rule in report["rules"]}
    assert (report["bump"], report["required_version"]) == ("minor", "1.1.0")
    assert {
        (v["platform"], v["case"]) for v in rules[CLIENT]["verdicts"] if v["gained"] and not v["lost"]
    } == {(platform, "a new one") for platform in PLATFORMS}
    assert [bump for bump, why in reasons(rules[CLIENT]) if why.startswith("widened on")] == ["minor"]
    assert rules[CLIENT]["notices"] == []
    assert reasons(rules[CMDLET]) == {("minor", "a query changes, and no test event shows what that does")}
    assert "add an event" in rules[CMDLET]["notices"][0] and rules[CMDLET]["verdicts"] == []


def test_narrowed_correlation(root: Path, run: Any) -> None:
    edit(rule_file(root, BULK), "    gte: 5", "    gte: 6")
    [rule] = report_of(run, root)["rules"]
    lost = [v for v in rule["verdicts"] if v["lost"]]
    assert rule["name"] == BULK and {v["platform"] for v in lost} == PLATFORMS
    assert {v["case"] for v in lost} >= {"five owners, one item each"} and not [
        v for v in lost if v["gained"]
    ]
    assert any("UserId=five@contoso.example" in label for v in lost for label in v["lost"])
    assert {s["of"].rpartition(": ")[2] for s in rule["settings"]} >= {
        "BulkCrossMailboxAccessThreshold", f"{BULK}_threshold", "threshold",
    }  # fmt: skip


def test_pipeline_that_changes_every_rule(root: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []

    def nothing_changed(name: str, *_: object) -> list[VerdictChange]:
        executed.append(name)
        return []

    monkeypatch.setattr(comparison, "changed_verdicts", nothing_changed)
    edit(
        root / "pipelines" / "m365" / "sentinel.yml",
        "iff(isnotempty(ClientIP), ClientIP, Client_IPAddress)",
        "ClientIP",
    )
    report = report_of(run, root)
    unexplained = {("minor", "a query changes, and no test event shows what that does")}
    assert {rule["name"]: reasons(rule) for rule in report["rules"]} == dict.fromkeys(
        [BULK, CMDLET, CLIENT], unexplained
    )
    assert sorted(executed) == [BULK, CMDLET, CLIENT]


def test_base_that_cannot_be_executed_is_not_taken_for_harmless(root: Path, run: Any) -> None:
    query = root / "dist" / "splunk" / "queries" / f"{CLIENT}.spl"
    query.write_text(query.read_text(encoding="utf-8") + "| frobnicate\n", encoding="utf-8")
    commit(root)
    [rule] = report_of(run, root)["rules"]
    [(bump, why)] = reasons(rule)
    assert bump == "major"
    assert why.startswith(f"the base's queries cannot be executed today: splunk/queries/{CLIENT}.spl: ")


# -- what cannot be compared ---------------------------------------------------------------------------


def test_fault_of_the_head_is_a_finding(root: Path, run: Any) -> None:
    path = rule_file(root, CLIENT)
    edit(path, "ClientInfoString|contains:", "ClientInfoStrin|contains:")
    line = path.read_text(encoding="utf-8").splitlines().index("    ClientInfoStrin|contains:") + 1
    code, out, err = run(root, "HEAD")
    assert (code, out) == (1, "") and err and all(f"{CLIENT}.yml:{line}: field " in text for text in err)


@pytest.mark.parametrize(
    "name",
    ["nowhere", "", "-", "--output=stolen", "-ostolen", "--help", "HEAD:pyproject.toml", "HEAD~1", "a b",
     "\n", "\0", "HEAD\0", "HEAD^{tree}", ":/", "@{-1}", "\u202e"],
)  # fmt: skip
def test_unknown_base_is_one_line(root: Path, run: Any, name: str) -> None:
    before = snapshot(root)
    code, out, err = run(root, "--", name)
    assert (code, out, len(err)) == (2, "", 1)
    assert re.fullmatch(r"error: BASE .+; .+", err[0]) and err[0].isprintable()
    assert snapshot(root) == before


def test_base_without_a_build_is_one_line(root: Path, run: Any) -> None:
    first = git(root, "rev-parse", "HEAD")
    shutil.rmtree(root / "dist")
    commit(root)
    code, out, err = run(root, "HEAD")
    assert (code, out, len(err)) == (2, "", 1) and "has no dist/manifest.json of this pack" in err[0]
    for text in ("{}", '{"rules": 1}', "[]"):
        (root / "dist").mkdir(exist_ok=True)
        (root / "dist" / "manifest.json").write_text(text, encoding="utf-8")
        commit(root)
        assert run(root, "HEAD")[0] == 2
    assert run(root, first)[0] == 0


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("splunk/remote_email_collection-1.0.0.tgz", b"not an archive"),
        ("elastic/rules.ndjson", b"[]\n{"),
        (f"sentinel/analytics/{CLIENT}.yaml", b"a: ["),
        (f"sentinel/analytics/{CLIENT}.yaml", b"\xff\xfe"),
        (f"splunk/queries/{CLIENT}.spl", b"\xff\xfe"),
    ],
)
def test_base_whose_imports_cannot_be_read_is_one_line(
    root: Path, run: Any, path: str, content: bytes
) -> None:
    (root / "dist" / path).write_bytes(content)
    commit(root)
    code, out, err = run(root, "HEAD")
    assert (code, out, len(err)) == (2, "", 1) and "cannot be read" in err[0]


def test_no_repository_is_one_line(tmp_path: Path, run: Any) -> None:
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    code, out, err = run(root, "HEAD")
    assert (code, out, len(err)) == (2, "", 1)


@pytest.mark.usefixtures("no_engine")
def test_pack_in_a_folder_of_a_repository_and_links(root: Path, run: Any, tmp_path: Path) -> None:
    """A link in the base is not followed, and neither are its attributes."""
    secret = tmp_path / "secret"
    secret.write_text("secret", encoding="utf-8")
    whole = tmp_path / "whole"
    shutil.copytree(root, whole / "inner", ignore=shutil.ignore_patterns(".git"))
    (whole / "inner" / ".gitattributes").write_text("dist export-ignore\n", encoding="utf-8")
    (whole / "inner" / "dist" / "splunk" / "link.spl").symlink_to(secret)
    git(whole, "init", "-q")
    commit(whole)
    report = report_of(run, whole / "inner")
    assert (report["bump"], report["shared"]) == ("none", [])


# -- text from strangers -------------------------------------------------------------------------------

HOSTILE = (
    "</summary><script>x</script> ``` ~~~ [a](javascript:b) ![c](https://e.x) | # @octocat #1 \u202e \x1b[31m"
)


def test_a_stranger_cannot_write_the_report(root: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with changed_yaml(rule_file(root, CLIENT)) as data:
        data["title"] = HOSTILE
        data["description"] = HOSTILE + "\n\n```\n\n# Approved\n\n" + data["description"]
        data["alert"]["detail"] = "``````` ~~~~ </details>"
        data["detection"]["selection"]["ClientInfoString|contains"] += ["```diff", "</code>`|`", "a\tb"]
    changed = VerdictChange(HOSTILE, "tests/events/x.yml", 1, True, "splunk", ("a`|b",), (HOSTILE,), ("`",))
    monkeypatch.setattr(comparison, "changed_verdicts", lambda *_: [changed])
    code, out, _ = run(root, "HEAD", "--format", "markdown")
    assert code == 0 and "narrowed on splunk" in out
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(out)
    flat = [t for token in tokens for t in (token, *(token.children or ()))]
    assert {t.type for t in flat} <= {
        "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "softbreak",
        "code_inline", "bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close", "fence",
    }  # fmt: skip
    assert [t.content for t in tokens if t.type == "inline" and t.content.startswith("Approved")] == []
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings == [
        "What changes for users", f"`{CLIENT}`: changed", "Changed files that hold every rule",
        "Draft for CHANGELOG.md",
    ]  # fmt: skip
    assert all(line.isprintable() for line in out.split("\n"))
    prose = "\n".join(t.content for t in tokens if t.type == "inline")
    assert not re.search(r"@[0-9A-Za-z]|(?<!&)#[0-9]", re.sub(r"`[^`]*`", "", prose))
    code, out, _ = run(root, "HEAD")
    assert code == 0 and all(line.isprintable() for line in out.split("\n")) and "\\x1b[31m" in out


# -- versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bump", "after"),
    [(Bump.NONE, "1.2.3"), (Bump.PATCH, "1.2.4"), (Bump.MINOR, "1.3.0"), (Bump.MAJOR, "2.0.0")],
)
def test_raised_versions(bump: Bump, after: str) -> None:
    assert str(raised(version_of("1.2.3", "x"), bump)) == after
    assert version_of("1.10.0", "x") > version_of("1.9.9", "x")


@pytest.mark.parametrize("text", ["1.0", "1.0.0rc1", "v1.0.0", "1.0.0\n", "-1.0.0", "01.0.0", ""])
def test_other_versions_are_refused(root: Path, run: Any, text: str) -> None:
    edit(root / "pyproject.toml", 'version = "1.0.0"', f"version = {json.dumps(text)}")
    code, out, err = run(root, "HEAD")
    assert (code, out, len(err)) == (1, "", 1) and "is not major.minor.patch" in err[0]

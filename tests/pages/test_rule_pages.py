"""The trap: a page that says what the rule once was, or that a rule's text turns into something else.

The committed pages are what the sources give, hold the shipped queries byte for byte and link to what is
there. docs/rules/ and dist/ are written together or not at all. A stranger's rule puts no element on a page.
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from conftest import DIST, ROOT
from detection_pack.build import dist as build
from detection_pack.build import folders
from detection_pack.cli import main
from detection_pack.model.case import load_cases, log_source_of
from detection_pack.model.detections import leaves
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule_reader import read_rule
from detection_pack.pages import rule_pages
from support.checkout import copy_of_the_sources, core_alone, snapshot, tree
from support.sources import SOURCES

PAGES = ROOT / "docs" / "rules"
RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def tokens_of(page: str) -> list[Token]:
    return [t for token in RENDERER.parse(page) for t in (token, *(token.children or ()))]


def page_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_committed_pages_are_what_the_sources_give(pack: Pack) -> None:
    folder = rule_pages.folder(pack, build.make(pack))
    assert snapshot(PAGES) == folder.files
    assert set(folder.files) == {"README.md", "PREREQUISITES.md", *(f"{rule.name}.md" for rule in pack.rules)}


def test_pages_hold_the_shipped_queries(pack: Pack) -> None:
    shown = 0
    for rule in pack.rules:
        # Before them stand the queries by which one sees that a source is silent.
        queries = page_of(rule.name).partition("\n## Queries\n")[2]
        held = [t.content for t in tokens_of(queries) if t.type == "fence"]
        shipped = [
            path.read_text(encoding="utf-8")
            for path in sorted(DIST.glob(f"*/queries/{rule.name}.*"))
            if path.suffix != ".json"
        ]
        built_for = [here for here in PLATFORMS if pack.pipelines[here].absence(rule) is None]
        assert sorted(held) == sorted(shipped) and len(shipped) >= len(built_for) > 0
        shown += len(held)
    assert shown >= 3 * len(pack.rules)


def test_pages_say_what_the_rule_and_its_events_say(pack: Pack) -> None:
    for rule in pack.rules:
        page = html.unescape(re.sub(r"<[^>]*>", "", RENDERER.render(page_of(rule.name))))
        # Behind the @ of an address stands a space without width, so that it becomes no link.
        page = page.replace("\u200b", "")
        data = rule.main.data
        cases = load_cases(ROOT / "tests" / "events" / f"{rule.name}.yml", log_source_of(rule, SOURCES))
        matching = sum(case.matches for case in cases)
        told, _, unseen = data["description"].partition("What it does not see:")
        said = [rule.title, rule.level, rule.id, *rule.alert.fields, told, unseen.strip()[1:]]
        for key in ("falsepositives", "references", "data_sources", "required_tables"):
            said += data.get(key, ())
        said += [case.title for case in cases]
        said += [why for case in cases for _, why in case.exceptions.values()]
        said.append(f"{matching} cases must match and {len(cases) - matching} must not")
        assert not [text for text in said if " ".join(str(text).split()) not in page]


def test_fields_have_the_names_that_the_queries_use(pack: Pack) -> None:
    row = re.search(r"^\| `Image` .*$", page_of("onprem_powershell_collection"), re.MULTILINE)
    assert row is not None
    named = [
        *("FolderPath", "FileName"),
        *("process.executable", "process.name"),
        *("FolderPath", "FileName"),
        *("process_path", "process_name"),
    ]
    assert re.findall(r"`([^`]+)`", row[0])[1:] == named
    assert re.search(
        r"^\| `MailboxOwnerUPN` .*`user\.email` \|.*$", page_of("bulk_cross_mailbox_access"), re.M
    )


def test_links_lead_somewhere() -> None:
    followed = 0
    for page in PAGES.glob("*.md"):
        for token in tokens_of(page.read_text(encoding="utf-8")):
            if token.type == "link_open":
                target = str(token.attrs["href"])
                path, _, place = target.partition("#")
                assert target.startswith("https://") or (PAGES / path).resolve().is_file(), target
                if place and path.startswith("../"):
                    assert f'<a id="{place}"></a>' in (PAGES / path).read_text(encoding="utf-8"), target
                followed += 1
    assert followed > 50


def test_index_lists_every_rule_by_tier(tmp_path: Path) -> None:
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    (root / "sigma" / "hunting").mkdir(exist_ok=True)
    name = "suspicious_ews_client"
    (root / "sigma" / "core" / f"{name}.yml").rename(root / "sigma" / "hunting" / f"{name}.yml")
    (root / "tests" / "events" / "exchange_admin_cmdlet.yml").unlink()
    assert main(["--root", str(root), "build"]) == 0
    index = (root / "docs" / "rules" / "README.md").read_text(encoding="utf-8")
    core, hunting = index.split("## Hunting")
    assert f"[`{name}`]({name}.md)" in hunting and name not in core
    core = core.partition("## Extended")[0]
    assert [int(n) for n in re.findall(r"\| (\d+) \|$", core, re.MULTILINE)] == [68, 0, 141]
    page = (root / "docs" / "rules" / "exchange_admin_cmdlet.md").read_text(encoding="utf-8")
    assert "None yet: the rule has no events file." in page


# -- written with dist/, whole or not at all ------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = core_alone(copy_of_the_sources(tmp_path_factory.mktemp("built") / "pack"))
    assert main(["--root", str(root), "build"]) == 0
    return root


def test_check_names_each_stale_missing_and_foreign_page(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "pack"
    shutil.copytree(built, root)
    assert main(["--root", str(root), "build", "--check"]) == 0
    pages = root / "docs" / "rules"
    page = pages / "exchange_admin_cmdlet.md"
    page.write_text(page.read_text(encoding="utf-8").replace("high", "low", 1), encoding="utf-8")
    (pages / "suspicious_ews_client.md").unlink()
    (pages / "gone_rule.md").write_text("x", encoding="utf-8")
    assert main(["--root", str(root), "build", "--check"]) == 1
    said = [line.partition("/docs/rules/")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "exchange_admin_cmdlet.md:10: is stale; run detection-pack build",
        "suspicious_ews_client.md:1: is missing; run detection-pack build",
        "gone_rule.md:1: does not belong in docs/rules/; run detection-pack build",
    ]
    assert main(["--root", str(root), "build"]) == 0
    assert snapshot(pages) == snapshot(built / "docs" / "rules")


def test_new_events_make_the_page_stale(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "pack"
    shutil.copytree(built, root)
    events = root / "tests" / "events" / "suspicious_ews_client.yml"
    events.write_text(events.read_text(encoding="utf-8").replace("- title: ", "- title: the ", 1), "utf-8")
    assert main(["--root", str(root), "build", "--check"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(r"suspicious_ews_client\.md:\d+: is stale; ", lines[0])


def test_pages_of_somebody_else_stop_the_build_before_anything_is_written(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    (root / "docs" / "rules").mkdir(parents=True)
    (root / "docs" / "rules" / "README.md").write_text("# Our own pages\n", encoding="utf-8")
    before = tree(root)
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(root), "build"])
    assert stopped.value.code == 2
    assert "docs/rules:1: holds files that no build made" in capsys.readouterr().err
    assert tree(root) == before


def test_a_page_begun_with_a_rule_gives_way(tmp_path: Path) -> None:
    """`detection-pack new` begins a page, also where no index is yet; a build knows it for one of its own."""
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    command = ["--root", str(root), "new", "begun_rule", "--like", "exchange_admin_cmdlet"]
    assert main([*command, "--value", "Get-SomethingOfInterest"]) == 0
    begun = root / "docs" / "rules" / "begun_rule.md"
    assert "writes the rest of this page" in begun.read_text(encoding="utf-8")
    # Its placeholders stop a build; without the rule the page has nothing to be about.
    (root / "sigma" / "extended" / "begun_rule.yml").unlink()
    (root / "tests" / "events" / "begun_rule.yml").unlink()
    assert main(["--root", str(root), "build"]) == 0
    assert not begun.exists() and (begun.parent / "README.md").is_file()


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_rename_that_fails_leaves_both_folders_as_they_were(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Where names cannot be exchanged, each of the four renames in turn: the old dist/ aside, the new one in,
    and the same for docs/rules/."""
    root = tmp_path / "pack"
    shutil.copytree(built, root)
    before = snapshot(root)
    (root / "sigma" / "core" / "suspicious_ews_client.yml").unlink()
    del before["sigma/core/suspicious_ews_client.yml"]
    done: list[Path] = []
    rename = Path.rename

    def failing_rename(self: Path, target: Path) -> Path:
        done.append(self)
        if len(done) == failing:
            raise PermissionError(13, "Permission denied", str(self))
        return rename(self, target)

    monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(root), "build"])
    assert stopped.value.code == 2 and len(done) >= failing
    assert snapshot(root) == before


def test_a_build_of_anybodys_rules_has_no_pages(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rules = built / "sigma" / "core"
    before = snapshot(built)
    assert main(["--root", str(built), "build", "--rules", str(rules), "--out", str(out)]) == 0
    assert not list(tmp_path.rglob("*.md")) and snapshot(built) == before


# -- text from strangers -------------------------------------------------------------------------------

HOSTILE = (
    "</td></table><script>alert(1)</script><img src=x onerror=y> <!-- [x](javascript:alert(1)) "
    "![p](https://e.x/p.png) | a | b | ``` ~~~ `c` **b** # h\n\n# heading\n\n```\nfence\n\n"
    "| t |\n|---|\n| r |\n\n[d]: https://e.x\n\n<div>\n\n    indented\n\n- item\n\n1. item\n\n> quote\n\n"
    "---\n\nwww.evil.example @octocat #1 me@e.example \u202e\u200b $x$"
)


def hostile_pack(tmp_path: Path) -> Path:
    """The pack with one rule in which every text is hostile."""
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    path = root / "sigma" / "core" / "exchange_admin_cmdlet.yml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["title"] = HOSTILE[:250]
    for key in ("description", "author", "confidence"):
        data[key] = HOSTILE
    for key in ("falsepositives", "references", "required_tables", "data_sources"):
        data[key] = [HOSTILE, *HOSTILE.split("\n\n"), "javascript:alert(1)", "https://e.x/`|<b>"]
    data["date"] = "2026-11-23"
    data["alert"]["type"] = HOSTILE[:200]
    data["alert"]["detail"] = HOSTILE.replace("{", "") + " {Operation}"
    data["detection"]["selection"]["Operation|contains"] = ["```````", "`|`</script>", "Search-Mailbox"]
    data["seen_today"] = {"in": HOSTILE, "read": "2026-11-25", "values": {"```````": HOSTILE}}
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    events = root / "tests" / "events" / "exchange_admin_cmdlet.yml"
    stated = yaml.safe_load(events.read_text(encoding="utf-8"))
    for case in (*stated["match"], *stated["no_match"]):
        case["title"] = HOSTILE
        case["except"] = {"splunk": "match", "threshold": "no_match", "why": HOSTILE}
    events.write_text(yaml.safe_dump(stated, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return root


def test_a_stranger_puts_no_element_on_a_page(tmp_path: Path) -> None:
    pack = load_pack(hostile_pack(tmp_path))
    files = rule_pages.folder(pack, build.make(pack)).files
    ordinary = {t.type for path in PAGES.glob("*.md") for t in tokens_of(path.read_text(encoding="utf-8"))}
    for name in ("exchange_admin_cmdlet.md", "README.md"):
        page = files[name].decode()
        tokens = tokens_of(page)
        assert {t.type for t in tokens} <= ordinary
        assert [t.content.strip() for t in tokens if t.type == "html_block"] == [rule_pages.SIGNATURE]
        assert not [t for t in tokens if t.type == "html_inline"]
        hosts = {urlsplit(str(t.attrs["href"])).netloc for t in tokens if t.type == "link_open"}
        assert hosts <= {"", "attack.mitre.org"}
        assert "\u202e" not in page and "\u200b" not in page
    page = files["exchange_admin_cmdlet.md"].decode()
    lines = page.split("\n")
    for token in RENDERER.parse(page):
        if token.type == "fence" and token.map:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(lines))
    assert not re.search(r"www\.|@[0-9A-Za-z]|javascript:", outside) and "octocat" in outside
    headings = [t.content for t in RENDERER.parse(page) if t.type == "inline"]
    assert "Queries" in headings and "heading" not in headings
    longest = max(re.findall(r"^`+", page, re.MULTILINE), key=len)
    assert len(longest) >= 8  # longer than the run of seven in the query


def test_each_value_of_a_core_rule_says_what_it_is_worth_today(pack: Pack) -> None:
    """The reference fixes what the core rules find; the page must not sell more than that."""
    for name in ("exchange_admin_cmdlet", "bulk_cross_mailbox_access", "suspicious_ews_client"):
        rule = pack.rule(name)
        [values] = [
            [str(value) for _, value in leaf.values]
            for document in rule.documents
            for leaf in leaves(document)
            if leaf.field in ("Operation", "ClientInfoString")
        ]
        assert list(rule.main.data["seen_today"]["values"]) == values
        page = (ROOT / "docs" / "rules" / f"{name}.md").read_text(encoding="utf-8")
        section = page.partition("## What it sees today\n")[2].partition("\n## ")[0]
        assert [value for value in values if f"| `{value}` | " not in section] == []


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("seen_today: {in: x, read: 2026-11-25}", "lacks a part"),
        ("seen_today: {in: x, read: soon, values: {a: b}}", "lacks a part"),
        ("seen_today: {in: x, read: 2026-11-25, values: {a: ''}}", "lacks a part"),
    ],
)
def test_what_a_value_is_worth_is_said_of_a_value_of_the_rule(tmp_path: Path, stated: str, said: str) -> None:
    path = tmp_path / "probe.yml"
    text = "title: Probe\nlogsource: {product: windows, category: process_creation}\nlevel: low\n"
    path.write_text(f"{text}detection: {{s: {{Image: a}}, condition: s}}\n{stated}\n", encoding="utf-8")
    assert [said in f.what for f in read_rule(path, "other", named_by_stem=True).findings] == [True]


def test_each_rule_of_the_pack_says_what_it_does_not_see(pack: Pack) -> None:
    for rule in pack.rules:
        page = (ROOT / "docs" / "rules" / f"{rule.name}.md").read_text(encoding="utf-8")
        section = page.partition("## What it does not see\n")[2].partition("\n## ")[0].strip()
        assert len(section) > 40, rule.name
        assert section[0].isupper() and section.endswith("."), rule.name

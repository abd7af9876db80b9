"""The trap: a page that says a behaviour is covered by a rule that is not built, or hides one that is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import make
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.pack import COVERAGE, Pack, load_pack
from detection_pack.pages.coverage import PAGE, page
from support.checkout import copy_of_the_pack

STATED = yaml.safe_load((ROOT / COVERAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shown(pack: Pack) -> str:
    made = page(ROOT, make(pack))
    assert made is not None
    return made.decode()


def test_the_page_is_that_of_the_data(shown: str) -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == shown


def test_every_rule_of_the_pack_stands_for_a_behaviour(pack: Pack) -> None:
    """Core's bulk_cross_mailbox_access is left out on purpose: none of its operations reads mail."""
    named = {name for behaviour in STATED["behaviours"] for name in behaviour.get("rules", ())}
    finding = {rule.name for rule in pack.rules if rule.tier != "investigation"}
    assert finding - named == {"bulk_cross_mailbox_access"}


def test_a_mark_is_of_the_tier(pack: Pack, shown: str) -> None:
    tiers = {rule.name: rule.tier for rule in pack.rules}
    for behaviour in STATED["behaviours"]:
        [row] = [
            line
            for line in shown.split("\n")
            if line.startswith(f"| {behaviour['number']} | ") and "[" not in line
        ]
        own = [tiers[name] for name in behaviour.get("rules", ())]
        expected = "●" if set(own) - {"hunting"} else "○" if own else "–"
        assert row.split(" | ")[2] == expected, row


def test_a_behaviour_has_one_number() -> None:
    numbers = [behaviour["number"] for behaviour in STATED["behaviours"]]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "rules: [exchange_admin_cmdlet]",
            "rules: [exchange_admin_cmdlets]",
            '"exchange_admin_cmdlets" is not a rule',
        ),
        ("SIG: part", "SIGMA: part", '"SIGMA: part" is not a mark'),
        ("SIG: part", "SIG: half", '"SIG: half" is not a mark'),
    ],
)
def test_what_is_not_so_is_named_with_its_line(
    pack: Pack, tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = (ROOT / COVERAGE).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / COVERAGE).parent.mkdir()
    (tmp_path / COVERAGE).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PackError) as refused:
        page(tmp_path, make(pack))
    [finding] = refused.value.findings
    line = text[: text.index(old)].count("\n") + 1
    assert (said in finding.what, finding.line) == (True, line)


def test_a_build_writes_it_and_check_notices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copy_of_the_pack(tmp_path)
    shutil.copytree(ROOT / "reference", copy / "reference", dirs_exist_ok=True)
    (copy / PAGE).write_text("old", encoding="utf-8")
    assert main(["--root", str(copy), "build", "--check"]) == 1
    assert "docs/coverage.md:1: is stale" in capsys.readouterr().err
    assert main(["--root", str(copy), "build"]) == 0
    assert load_pack(copy).rules
    assert (copy / PAGE).read_text(encoding="utf-8") == (ROOT / PAGE).read_text(encoding="utf-8")

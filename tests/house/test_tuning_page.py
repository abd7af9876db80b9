"""The trap: a page of lists and figures that the filters and the month have left behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench_month
import bench_tuning
from conftest import ROOT
from detection_pack.model.pack import load_pack
from detection_pack.model.site_lists import load_list_filters, load_site, with_site

PAGE = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stated() -> dict[str, Any]:
    path = ROOT / bench_month.FOLDER / bench_tuning.FIGURES
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_the_tables_are_those_of_the_filters_and_the_figures(stated: dict[str, Any]) -> None:
    assert f"\n{bench_tuning.lists_table(ROOT)}\n" in PAGE
    assert f"\n{bench_tuning.figures_table(stated)}\n" in PAGE


def test_the_figures_are_of_this_month_and_these_lists(stated: dict[str, Any]) -> None:
    shipped = yaml.safe_load((ROOT / bench_month.FOLDER / bench_month.FIGURES).read_text(encoding="utf-8"))
    assert stated["month"] == shipped["month"]["data"], "run scripts/bench.py tuning"
    assert stated["lists"] == bench_tuning.digest(ROOT), "run scripts/bench.py tuning"
    for name, own in stated["rules"].items():
        assert own["as_shipped"] == shipped["rules"][name]["a_week"][bench_month.SHIPPED]


def test_a_list_never_adds_an_alert_that_nothing_explains(stated: dict[str, Any]) -> None:
    """A list takes records away, so that a rule that counts no more than before finds no more, but for bursts
    that fall into pieces; a higher threshold finds less."""
    pack = load_pack(ROOT)
    for name, own in stated["rules"].items():
        if pack.rule(name).correlation is None:
            assert all(number <= own["as_shipped"] for number in own.values()), name
        assert own.get("twice the threshold", 0) <= own["as_shipped"], name


def test_the_example_is_a_sites_file(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "site.yml"
    path.write_text(example, encoding="utf-8")
    pack = load_pack(ROOT)
    site = load_site(path, load_list_filters(ROOT))
    assert set(site.rows) == {"archive_services", "delegates"}
    assert with_site(pack, site).rule("bulk_cross_mailbox_access") != pack.rule("bulk_cross_mailbox_access")

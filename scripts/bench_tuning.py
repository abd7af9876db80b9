"""What each list and each parameter does to the alerts of the benign month: ``bench.py tuning``.

The month is that of `bench_month`, reference/month/site.yml what its organisation lists for the filters of
sigma/filters/. A rule is counted as it is shipped, without what each of its lists leaves out, without all of
them; a correlation also with twice its threshold, with half and with twice its window. The figures are alerts
a week, on the platform on which the month is counted.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

import bench_month
from detection_pack.build.dist import Built, rule_entries
from detection_pack.build.dist import write as write_dist
from detection_pack.languages.markdown import table
from detection_pack.model.event import Clock
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.site_lists import load_list_filters, load_site
from detection_pack.replay.trial import changes, listed, tried
from detection_pack.replay.verdict import EVER

SITE, FIGURES = "site.yml", "tuning.yml"


def variants(pack: Pack, folder: Path) -> Iterator[tuple[str, Built]]:
    """The builds that are counted, by what is changed."""
    site = load_site(pack.root / bench_month.FOLDER / SITE, load_list_filters(pack.root))
    yield from listed(pack, site, [rule.name for rule in pack.detections])
    counting = [
        (rule.name, rule.correlation)
        for rule in pack.detections
        if rule.correlation is not None and rule.correlation.value_field
    ]
    asked = {
        "twice the threshold": [f"{name}.threshold={2 * int(c.threshold)}" for name, c in counting],
        "half the window": [f"{name}.window={c.window // 120}m" for name, c in counting],
        "twice the window": [f"{name}.window={c.window // 30}m" for name, c in counting],
    }
    for label, stated in asked.items():
        yield label, tried(pack, changes(stated), folder / label.replace(" ", "_"))


def counted(pack: Pack, month: bench_month.Month) -> dict[str, dict[str, float]]:
    """Alerts a week by rule and by what was changed; only where something was."""
    made = list(bench_month.records(month))
    store = bench_month.filled(pack, dict.fromkeys(pack.sources), made)
    clock = Clock(max(record.time for record in made) + timedelta(days=1), EVER)
    by_id = {record.id: record for record in made}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (label, built) in enumerate(variants(pack, Path(scratch) / "rules")):
            if built.refused:
                raise PackError(built.refused)
            dist = Path(scratch) / str(number)
            write_dist(built, dist)
            for here, entries in bench_month.by_platform(rule_entries(dist)):
                one = bench_month.Build(here, dist, entries)
                for entry, hits in bench_month.executed(pack, one, store, clock):
                    alerts = bench_month.counted_hits(entry, hits, by_id, {}).alerts
                    found.setdefault(entry.name, {})[label] = bench_month.a_week(alerts, month)
    return {name: found[name] for name in sorted(found)}


def digest(root: Path) -> str:
    """Of what the figures follow from besides the rules: the month and its lists."""
    folder = root / bench_month.FOLDER
    texts = [(folder / SITE).read_bytes()]
    texts += [path.read_bytes() for path in sorted((root / "sigma" / "filters").glob("*.yml"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def figures(pack: Pack, found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What tuning.yml holds."""
    path = pack.root / bench_month.FOLDER / bench_month.FIGURES
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    rules = {
        name: {"as_shipped": shipped["rules"][name]["a_week"][bench_month.SHIPPED], **own}
        for name, own in found.items()
    }
    return {"month": shipped["month"]["data"], "lists": digest(pack.root), "rules": rules}


def lists_table(root: Path) -> str:
    """The lists with their parameters and rules, in Markdown."""
    rows = []
    for name, filters in load_list_filters(root).items():
        for one in filters:
            parameters = ", ".join(f"`{name}`" for name in one.parameters.values()) or "none"
            rows.append((f"`{name}`", parameters, ", ".join(f"`{rule}`" for rule in one.rules)))
    # To whoever lists, filters of the same parameters and rules are one.
    return table(("list", "a row states", "left out of"), list(dict.fromkeys(rows)))


def figures_table(stated: Mapping[str, Any]) -> str:
    """Alerts a week by rule and what was changed, in Markdown."""
    rows = []
    for name, own in stated["rules"].items():
        changed = [f"{label} {number:g}" for label, number in own.items() if label != "as_shipped"]
        rows.append((f"`{name}`", f"{own['as_shipped']:g}", ", ".join(changed)))
    return table(("rule", "as shipped", "with"), rows)


def measure() -> bool:
    """Count, write tuning.yml, and print the tables of docs/tuning.md."""
    pack = load_pack(bench_month.ROOT)
    month = bench_month.load_month(pack)
    stated = figures(pack, counted(pack, month))
    head = "# Alerts a week in the month of this folder. Written by scripts/bench.py tuning: do not edit.\n"
    (month.folder / FIGURES).write_text(head + yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
    print(lists_table(pack.root), figures_table(stated), sep="\n\n")
    return True

"""The trap: pipelines in dist/ that only the pack's own backends can read, or that other tools convert to
something weaker. Stock sigma-cli converts the core rules with them, and refuses what no file maps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import make
from detection_pack.checks.validate import validate
from detection_pack.model.pack import Pack, load_pack

CORE = ROOT / "sigma" / "core"
CMDLET, CLIENT = CORE / "exchange_admin_cmdlet.yml", CORE / "suspicious_ews_client.yml"
PROCESS, BULK = CORE / "onprem_powershell_collection.yml", CORE / "bulk_cross_mailbox_access.yml"
TARGETS = {"sentinel": "kusto", "defender": "kusto", "splunk": "splunk", "elastic": "lucene"}

#: Platform -> what the stock query of each rule says.
SAID: dict[str, dict[Path, tuple[str, ...]]] = {
    "sentinel": {
        CMDLET: ('RecordType in~ ("ExchangeAdmin", "1")', 'Operation contains "Search-Mailbox"'),
        CLIENT: (
            'RecordType in~ ("ExchangeItem", "2", "ExchangeItemGroup", "3", "ExchangeItemAggregated", "50")',
        ),
        PROCESS: (r'FolderPath endswith "\\powershell.exe"', "ProcessCommandLine contains"),
    },
    "defender": {
        CMDLET: ('RecordType =~ "1"', 'ActionType contains "Search-Mailbox"'),
        CLIENT: ('RecordType in~ ("2", "3", "50")', "ClientInfoString contains"),
        PROCESS: (r'FolderPath endswith "\\powershell.exe"', "ProcessCommandLine contains"),
    },
    "splunk": {
        CMDLET: ("RecordType=1 ", '"*Search-Mailbox*"'),
        CLIENT: ("RecordType IN (2, 3, 50)", "ClientInfoString IN ("),
        PROCESS: (r'process_path IN ("*\\powershell.exe"', "process IN ("),
        BULK: ("stats dc(MailboxOwnerUPN) as value_count by _time UserId ClientIP",),
    },
    "elastic": {
        CMDLET: ("event.code:ExchangeAdmin", r"*Search\-Mailbox*"),
        CLIENT: ("event.code:(ExchangeItem OR ExchangeItemGroup OR ExchangeItemAggregated)",),
        PROCESS: ("event.type:start", "process.command_line:("),
    },
}


def convert(platform: str, *rules: Path) -> subprocess.CompletedProcess[str]:
    """Stock ``sigma convert`` with the pipeline of a platform that stands in dist/."""
    program = shutil.which("sigma", path=str(Path(sys.executable).parent))
    assert program is not None, "sigma-cli is among the test dependencies"
    pipeline = ROOT / "dist" / "pipelines" / f"{platform}.yml"
    command = [program, "convert", "-t", TARGETS[platform], "-p", str(pipeline), *map(str, rules)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack(ROOT)


def test_the_build_writes_one_plain_pipeline_a_platform(pack: Pack) -> None:
    made = {path: content for path, content in make(pack).files.items() if path.startswith("pipelines/")}
    assert (
        set(made)
        == {f"pipelines/{name}.yml" for name in pack.pipelines}
        == {f"pipelines/{name}.yml" for name in TARGETS}
    )
    for path, content in made.items():
        assert (ROOT / "dist" / path).read_bytes() == content
        assert set(yaml.safe_load(content)) <= {"name", "priority", "allowed_backends", "transformations"}


@pytest.mark.parametrize("platform", TARGETS)
def test_stock_sigma_converts_the_core_rules(platform: str) -> None:
    for rule, said in SAID[platform].items():
        done = convert(platform, rule)
        assert done.returncode == 0, done.stderr
        assert all(text in done.stdout for text in said), done.stdout


@pytest.mark.parametrize("platform", TARGETS)
def test_stock_sigma_refuses_what_no_file_maps(platform: str, tmp_path: Path) -> None:
    faulty = tmp_path / "rule.yml"
    for rule, field in ((CMDLET, "Operation"), (PROCESS, "CommandLine")):
        text = rule.read_text(encoding="utf-8")
        assert f"{field}|" in text
        faulty.write_text(text.replace(f"{field}|", "Nope|"), encoding="utf-8")
        done = convert(platform, faulty)
        assert done.returncode != 0 and f"/{platform}.yml" in done.stderr, done.stderr
    name = tmp_path / "name.yml"
    name.write_text(
        CMDLET.read_text(encoding="utf-8").replace("RecordType: ", "RecordType: X"), encoding="utf-8"
    )
    # A record type that the enumeration lacks is no number, and has no name in Elastic's table.
    if platform in ("splunk", "elastic"):
        assert convert(platform, name).returncode != 0


def test_validate_takes_them_for_what_they_are(tmp_path: Path) -> None:
    for platform in TARGETS:
        path = Path(shutil.copy(ROOT / "dist" / "pipelines" / f"{platform}.yml", tmp_path))
        assert validate(ROOT, [path], execute=False) == []
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("type: set_state", "type: file_placeholders", 1), encoding="utf-8")
        [finding] = validate(ROOT, [path], execute=False)
        line = text[: text.index("type: set_state")].count("\n") + 1
        assert (finding.check, finding.line) == ("pipeline-feature", line)

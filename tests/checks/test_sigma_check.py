"""The trap: a rule that our own tools like and the Sigma community's refuse.

All validators of pySigma and of SigmaHQ, configured by sigma-check.yml, over every rule: no issue at all.
They read local data; left alone they download it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sigma.data.mitre_attack as attack
import yaml
from sigma.collection import SigmaCollection
from sigma.plugins import InstalledSigmaPlugins
from sigma.validation import SigmaValidator

from conftest import ROOT
from detection_pack.model.attack import packaged
from detection_pack.model.rule_files import rule_files
from support.stix import stix_file

CARRIED = ROOT / "scripts" / "detection_pack" / "checks"
CONFIGURATION = ROOT / "sigma-check.yml"
SIGMAHQ = {
    "data_filename": "sigmahq_filename.json",
    "data_taxonomy": "sigmahq_taxonomy.json",
    "data_windows_eventid": "sigmahq_windows_validator.json",
    "data_windows_provider": "sigmahq_windows_validator.json",
}


@pytest.fixture(scope="module", autouse=True)
def local_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    cache = tmp_path_factory.mktemp("cache")
    attack.set_cache_dir(str(cache / "attack"))
    attack.set_url(str(stix_file(tmp_path_factory.mktemp("attack") / "enterprise-attack.json", packaged())))
    for module, file in SIGMAHQ.items():
        loaded = importlib.import_module(f"sigma.validators.sigmahq.data.{module}")
        loaded.set_cache_dir(str(cache / module))
        loaded.set_url(str(CARRIED / file))
    yield


def issues(text: str, path: Path | None = None) -> list[str]:
    validators: Any = InstalledSigmaPlugins.autodiscover().validators
    configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    validator = SigmaValidator.from_dict(configuration, validators)
    collection = SigmaCollection.from_yaml(text)
    collection.resolve_rule_references()
    found = validator.validate_rules(cast(Iterator[Any], iter(collection.rules)))
    return [f"{path}: {type(issue).__name__}: {issue}" for issue in found]


@pytest.mark.parametrize("path", [path for path, _ in rule_files(ROOT)], ids=lambda path: path.stem)
def test_no_issue(path: Path) -> None:
    assert issues(path.read_text(encoding="utf-8"), path) == []


def test_validators_do_find_faults() -> None:
    path = ROOT / "sigma" / "core" / "exchange_admin_cmdlet.yml"
    text = path.read_text(encoding="utf-8").replace("attack.t1114.002", "attack.t9999")
    assert any("InvalidATTACKTag" in issue for issue in issues(text))


def test_every_silenced_validator_has_a_reason() -> None:
    lines = CONFIGURATION.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.strip().startswith("- -"):
            above = [other for other in lines[:number] if not other.strip().startswith("- -")]
            assert above[-1].strip().startswith("#"), f"{line} is silenced without a reason"

"""The trap: a dist/ that somebody has spoiled, and a replay that ends in a traceback or, worse, in "ok"."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from conftest import DIST, ROOT
from detection_pack.cli import main


@pytest.mark.parametrize(
    "name",
    [
        "sentinel/queries/exchange_admin_cmdlet.kql",
        "sentinel/analytics/exchange_admin_cmdlet.yaml",
        "sentinel/azuredeploy/Office365.json",
        "splunk/queries/exchange_admin_cmdlet.spl",
        "splunk/macros.conf",
        "elastic/queries/exchange_admin_cmdlet.lucene",
        "elastic/queries/exchange_admin_cmdlet.view.json",
        "elastic/rules.ndjson",
        "sentinel/hunting/mail_folder_synchronised_by_app.yaml",
        "sentinel/hunting/azuredeploy.json",
        "defender/hunting/mail_folder_synchronised_by_app.yaml",
        "elastic/hunting/hunts.ndjson",
    ],
)
@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["no UTF-8", "missing"])
def test_what_cannot_be_read_is_one_line(
    name: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(DIST, dist)
    (dist / name).unlink()
    if content is not None:
        (dist / name).write_bytes(content)
    rule = "mail_folder_synchronised_by_app" if "/hunting/" in name else "exchange_admin_cmdlet"
    arguments = ["--root", str(ROOT), "replay", "--dist", str(dist), "--rule", rule]
    assert main([*arguments, "--platform", name.split("/", maxsplit=1)[0]]) == 1
    said = capsys.readouterr().err
    assert "internal error" not in said
    assert all(re.match(r"^\S.*:\d+: .+; .+$", line) for line in said.splitlines())

"""The trap: an update of the app that empties a site's allow-list, or claims what only the archive holds.

Splunk takes no upload through its management API: the server reads the archive itself, and puts its files
over the app's. ``local/`` stays, a lookup does not.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import DIST, ROOT
from detection_pack.cli import main
from detection_pack.platforms.splunk.archive import tgz
from support.product_servers import Answer, Splunkd, once, serving

ROWS = [{"UserId": 'a"b,c\n=x', "ClientIP": "192.0.2.10", "reason": "ticket"}, {"UserId": "", "ClientIP": ""}]


@dataclass
class Played:
    server: Splunkd
    url: str
    capsys: pytest.CaptureFixture[str]

    def deploy(self, *arguments: object) -> tuple[int, str]:
        code = main(["--root", str(ROOT), "deploy", "splunk", "--url", self.url, *map(str, arguments)])
        printed = self.capsys.readouterr()
        assert "splunk-token" not in printed.out + printed.err
        return code, printed.out + printed.err


@pytest.fixture
def played(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setenv("SPLUNK_TOKEN", "splunk-token")
    server = Splunkd()
    with serving(server) as url:
        yield Played(server, url, capsys)


def older(server: Splunkd) -> None:
    """An app of an earlier build is there."""
    text = server.installed["default/app.conf"]
    server.installed["default/app.conf"] = text.replace("version = 2.0.0", "version = 1.1.0").replace(
        "build = ", "build = 9"
    )


def copied(tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A build with another app in it, which the manifest knows."""
    dist = tmp_path / "dist"
    (dist / "splunk").mkdir(parents=True)
    [archive] = (DIST / "splunk").glob("*.tgz")
    with tarfile.open(archive) as opened:
        members = [(one, opened.extractfile(one)) for one in opened.getmembers()]
        files = {one.name: file.read() for one, file in members if file is not None}
    change(files)
    content = tgz(files)
    (dist / "splunk" / archive.name).write_bytes(content)
    listed = {"path": f"splunk/{archive.name}", "sha256": sha256(content).hexdigest()}
    (dist / "manifest.json").write_text(json.dumps({"rules": [], "artefacts": [listed]}), encoding="utf-8")
    return dist


def test_installed_once_and_no_second_time(played: Played) -> None:
    code, text = played.deploy()
    assert (code, played.server.writes()) == (0, []) and text.startswith("would create: remote_email_coll")
    code, text = played.deploy("--apply")
    assert code == 0 and text == "created: remote_email_collection (app)\n1 created\n"
    [sent] = played.server.writes()
    [archive] = (DIST / "splunk").glob("*.tgz")
    assert sent.form()["name"] == str(archive) and "update" not in sent.form()
    for arguments in ([], ["--apply"], ["--apply", "--overwrite"]):
        assert played.deploy(*arguments) == (0, "unchanged: remote_email_collection (app)\n1 unchanged\n")
    assert len(played.server.writes()) == 1


def test_another_build_of_the_same_version_is_another(played: Played, tmp_path: Path) -> None:
    played.deploy("--apply")
    name = "remote_email_collection/default/app.conf"
    dist = copied(
        tmp_path, lambda files: files.update({name: files[name].replace(b"build = ", b"build = 7")})
    )
    code, text = played.deploy("--apply", "--dist", dist)
    assert code == 1 and "differs: remote_email_collection (app): build\n" in text
    code, text = played.deploy("--apply", "--overwrite", "--dist", dist)
    assert code == 0 and "updated: remote_email_collection (app): build\n" in text
    assert played.server.writes()[-1].form()["update"] == "true"


def test_settings_of_a_site_are_counted_and_stay(played: Played) -> None:
    played.deploy("--apply")
    searches = played.server._conf("savedsearches")
    off = next(name for name, stated in searches.items() if stated.get("disabled") is True)
    played.server.local |= {
        ("macros", "o365_index", "definition"): "index=o365",
        ("savedsearches", off, "disabled"): "0",
    }
    code, text = played.deploy("--apply", "--overwrite")
    assert code == 0 and "unchanged: remote_email_collection (app): keeps 2 settings of yours\n" in text


def test_an_allow_list_is_not_emptied_unasked(played: Played, tmp_path: Path) -> None:
    played.deploy("--apply")
    played.server.lookup = list(ROWS)
    older(played.server)
    wrote = len(played.server.writes())
    code, text = played.deploy("--apply", "--overwrite")
    assert code == 1 and "the allow-list has 1 rows, and the app brings an empty one; name a new file" in text
    assert len(played.server.writes()) == wrote and played.server.lookup == ROWS
    saved = tmp_path / "rows.csv"
    saved.write_text("mine", encoding="utf-8")
    code, text = played.deploy("--apply", "--overwrite", "--save-allow-list", saved)
    assert code == 1 and "is there already" in text and saved.read_text("utf-8") == "mine"
    assert len(played.server.writes()) == wrote
    saved.unlink()
    code, text = played.deploy("--apply", "--overwrite", "--save-allow-list", saved)
    assert code == 0 and "updated: remote_email_collection (app): build, version; keeps allow-list" in text
    assert list(csv.DictReader(io.StringIO(saved.read_text("utf-8"), newline=""))) == ROWS[:1]
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_an_allow_list_that_cannot_be_read_stops_an_update(played: Played) -> None:
    played.deploy("--apply")
    older(played.server)
    path = f"/servicesNS/nobody/{played.server.app}/search/jobs"
    error = Answer(400, {"messages": [{"type": "FATAL", "text": "lookup table is invalid"}]})
    played.server.faults += once("POST", path, error, error)
    wrote = len(played.server.writes())
    code, text = played.deploy("--apply", "--overwrite")
    assert code == 1 and "lookup table is invalid" in text and len(played.server.writes()) == wrote


def test_an_archive_that_the_server_does_not_find(played: Played, tmp_path: Path) -> None:
    code, text = played.deploy("--apply", "--location", tmp_path / "not-there.tgz")
    assert code == 1 and "failed: remote_email_collection (app): " in text and "Cannot open" in text
    other = tmp_path / "other.tgz"
    name = "remote_email_collection/default/app.conf"
    dist = copied(
        tmp_path, lambda files: files.update({name: files[name].replace(b"build = ", b"build = 7")})
    )
    shutil.copy(next((dist / "splunk").glob("*.tgz")), other)
    code, text = played.deploy("--apply", "--location", other)
    # What the server has read is not what the folder holds: it says so.
    assert (
        code == 1
        and "altered: remote_email_collection (app): created, and the product has it otherwise in build"
        in text
    )


def test_a_location_in_the_clear_is_refused(played: Played) -> None:
    code, text = played.deploy("--apply", "--location", "http://files.contoso.example/app.tgz")
    assert code == 2 and text.startswith("error: --location is a URL that is not encrypted")
    assert played.server.asked == []


@pytest.mark.parametrize(
    "name",
    ["remote_email_collection/bin/x.py", "remote_email_collection/default/inputs.conf", "../x",
     "other/default/x.conf", "remote_email_collection/default/commands.conf",
     "remote_email_collection/local/app.conf"],
)  # fmt: skip
def test_an_app_from_elsewhere_that_could_run_something_is_refused(
    played: Played, tmp_path: Path, name: str
) -> None:
    dist = copied(tmp_path, lambda files: files.update({name: b"x = 1\n"}))
    code, text = played.deploy("--apply", "--dist", dist)
    assert code == 2 and "which no app of a pack has" in text and played.server.asked == []


def test_all_rules_or_none(played: Played) -> None:
    with pytest.raises(SystemExit) as ended:
        played.deploy("--rule", "suspicious_ews_client")
    assert ended.value.code == 2


def test_the_steps_put_the_lists_of_a_site_in_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, out = tmp_path / "site.yml", tmp_path / "dist"
    site.write_text("archive_services: []\n", encoding="utf-8")
    assert main(["--root", str(ROOT), "build", "--site", str(site), "--lists", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["--root", str(ROOT), "deploy", "splunk", "--dist", str(out), "--print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [lists] = (out / "splunk").glob("*_lists-*.tgz")
    installs = [line for line in lines if "install" in line and ".tgz" in line]
    assert [str(lists) in line for line in installs] == [False, True, True, False]
    assert not any("-update" in line for line in installs if str(lists) in line)

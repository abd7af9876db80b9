"""The trap: an update of the app that empties a site's allow-list or lists, or claims what only the archive
holds.

Splunk takes no upload through its management API: the server reads the archive itself, and puts its files
over the app's. ``local/`` stays, a lookup does not. And a search that names a missing lookup fails.
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


# --- the lists of a site ---------------------------------------------------------------------------------

LISTS = "remote_email_collection_lists"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with two lists of a site."""
    folder = tmp_path_factory.mktemp("listed")
    (folder / "site.yml").write_text(
        "delegates: []\nprovisioning: [{account: a@x.example}]\n", encoding="utf-8"
    )
    site = ["--site", str(folder / "site.yml"), "--lists"]
    assert main(["--root", str(ROOT), "build", *site, "--out", str(folder / "dist")]) == 0
    return folder / "dist"


def archive_of_lists(dist: Path) -> Path:
    [found] = (dist / "splunk").glob(f"{LISTS}-*.tgz")
    return found


def test_lists_come_before_the_searches_and_are_never_laid_over_one(played: Played, listed: Path) -> None:
    code, text = played.deploy("--dist", listed)
    assert (code, played.server.writes()) == (0, [])
    assert text.splitlines()[0] == f"would create: {LISTS} (app of lists)"
    code, text = played.deploy("--dist", listed, "--apply")
    assert code == 0 and text.splitlines()[:2] == [
        f"created: {LISTS} (app of lists)",
        "created: remote_email_collection (app)",
    ]
    sent = [one.form() for one in played.server.writes()]
    assert [one["explicit_appname"] for one in sent] == [LISTS, "remote_email_collection"]
    assert sent[0]["name"] == str(archive_of_lists(listed)) and not any("update" in one for one in sent)
    files = played.server.apps[LISTS]
    rows = f"lookups/{next(name for name in files if 'provisioning' in name).rpartition('/')[2]}"
    assert "a@x.example" in files[rows]
    # People edit a list; the searches there are of an earlier build.
    files[rows] = "account,reason\nb@x.example,theirs\n"
    before = dict(files)
    for arguments in (["--apply"], ["--apply", "--overwrite"]):
        played.server.asked.clear()
        code, text = played.deploy("--dist", listed, *arguments)
        assert (code, played.server.writes()) == (0, [])
        assert text.startswith(f"unchanged: {LISTS} (app of lists): keeps whatever is in it\n")
    older(played.server)
    code, text = played.deploy("--dist", listed, "--apply", "--overwrite")
    assert code == 0 and "updated: remote_email_collection (app)" in text
    assert [one.form()["explicit_appname"] for one in played.server.writes()] == ["remote_email_collection"]
    assert played.server.apps[LISTS] == before


@pytest.mark.parametrize("there", [False, True], ids=["new", "older"])
def test_searches_are_not_put_where_a_lookup_of_theirs_is_missing(
    there: bool, played: Played, listed: Path
) -> None:
    """A list that the site has begun with later: an update would bring it, and put its rows over all."""
    played.deploy("--dist", listed, "--apply")
    text = played.server.apps[LISTS]["default/transforms.conf"]
    gone = next(line for line in text.splitlines() if "provisioning" in line).strip("[]")
    played.server.apps[LISTS]["default/transforms.conf"] = text.partition(f"[{gone}]")[0]
    older(played.server)
    if not there:
        del played.server.apps["remote_email_collection"]
    played.server.asked.clear()
    code, text = played.deploy("--dist", listed, "--apply", "--overwrite")
    assert (code, played.server.writes()) == (1, [])
    assert f"incomplete: {LISTS} (app of lists): lacks {gone}; keeps whatever is in it\n" in text
    assert f"failed: remote_email_collection (app): {LISTS} lacks {gone}, which the searches name" in text
    # Without lists no search names one.
    assert played.deploy("--apply", "--overwrite")[0] == 0


def test_lists_that_cannot_be_put_there_stop_the_searches(played: Played, listed: Path) -> None:
    error = Answer(500, {"messages": [{"type": "ERROR", "text": "no space left"}]})
    played.server.faults += once("POST", "/services/apps/local", error)
    code, text = played.deploy("--dist", listed, "--apply")
    assert code == 1 and f"failed: {LISTS} (app of lists): " in text and "no space left" in text
    assert "failed: remote_email_collection (app): " in text and played.server.apps == {}


def test_another_machine_is_told_where_the_lists_are(played: Played, listed: Path, tmp_path: Path) -> None:
    for archive in (listed / "splunk").glob("*.tgz"):
        shutil.copy(archive, tmp_path)
    lists = tmp_path / archive_of_lists(listed).name
    [searches] = set(tmp_path.iterdir()) - {lists}
    code, text = played.deploy("--dist", listed, "--apply", "--location", searches)
    assert (code, played.server.writes()) == (2, [])
    assert text == f"error: --lists-location is missing; say where the server finds {LISTS}\n"
    place = ["--location", searches, "--lists-location"]
    code, text = played.deploy("--dist", listed, "--apply", *place, "http://x.example/a.tgz")
    assert code == 2 and text.startswith("error: --lists-location is a URL that is not encrypted")
    assert played.deploy("--dist", listed, "--apply", *place, lists)[0] == 0
    assert [one.form()["name"] for one in played.server.writes()] == [str(lists), str(searches)]
    assert played.deploy("--dist", listed, "--apply", "--location", searches)[0] == 0


@pytest.mark.parametrize("name", ["default/savedsearches.conf", "bin/x.py"])
def test_lists_from_elsewhere_that_could_run_something_are_refused(
    name: str, played: Played, listed: Path, tmp_path: Path
) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(listed, dist)
    archive = archive_of_lists(dist)
    before = sha256(archive.read_bytes()).hexdigest()
    archive.write_bytes(tgz({f"{LISTS}/{name}": b"x = 1\n"}))
    manifest = (dist / "manifest.json").read_text("utf-8")
    after = sha256(archive.read_bytes()).hexdigest()
    (dist / "manifest.json").write_text(manifest.replace(before, after), encoding="utf-8")
    code, text = played.deploy("--dist", dist, "--apply")
    assert code == 2 and f"holds {LISTS}/{name}, which no app of a pack has" in text
    assert played.server.asked == []


def test_the_steps_put_the_lists_of_a_site_in_once(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "deploy", "splunk", "--dist", str(listed), "--print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    lists = str(archive_of_lists(listed))
    installs = [line for line in lines if ".tgz" in line]
    # In the cloud, on a cluster, on one search head: the lists before the searches that name them.
    assert [lists in line for line in installs] == [True, False] * 3
    assert not any("-update" in line for line in installs if lists in line)

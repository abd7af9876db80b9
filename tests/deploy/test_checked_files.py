"""The trap: a dist/ folder from elsewhere that sends a file of the machine to a product, or more than rules.

Each file is what the manifest says, lies in the folder, and holds what a build of ours writes: nothing is on,
nothing acts, no template computes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DIST
from detection_pack.deploy.checked_files import checked_dist
from detection_pack.deploy.products import PRODUCTS, asked_for
from detection_pack.model.findings import PackError

OPTIONS = {
    "subscription": "11111111-2222-3333-4444-555555555555",
    "resource-group": "soc",
    "workspace": "logs-eu",
}
TOKENS = {
    "KIBANA_API_KEY": "k", "SPLUNK_TOKEN": "t", "AZURE_ACCESS_TOKEN": "t", "GRAPH_ACCESS_TOKEN": "t",
}  # fmt: skip


def written(dist: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (dist / path).parent.mkdir(parents=True, exist_ok=True)
        (dist / path).write_bytes(content)
    return listed(dist, {path: sha256(content).hexdigest() for path, content in files.items()})


def listed(dist: Path, digests: dict[str, str]) -> Path:
    artefacts = [{"path": path, "sha256": digest} for path, digest in digests.items()]
    manifest = {"rules": [{"id": "i", "name": "n", "artefacts": artefacts}], "artefacts": []}
    dist.mkdir(exist_ok=True)
    (dist / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return dist


def test_the_packs_own_folder_is_as_its_manifest_says() -> None:
    for name in PRODUCTS:
        files = checked_dist(DIST, name).files
        assert files and all((DIST / path).read_bytes() == content for path, content in files.items())
        assert all(path.startswith(f"{name}/") for path in files)


def test_a_file_that_was_changed_is_not_sent(tmp_path: Path) -> None:
    dist = written(tmp_path / "dist", {"elastic/rules.ndjson": b"{}"})
    assert checked_dist(dist, "elastic").files == {"elastic/rules.ndjson": b"{}"}
    (dist / "elastic/rules.ndjson").write_bytes(b"{} ")
    with pytest.raises(PackError, match="is not what the manifest says of it; run detection-pack build"):
        checked_dist(dist, "elastic")


@pytest.mark.parametrize(
    "path",
    ["elastic/../../secret", "/etc/passwd", "elastic//x", "elastic/./x", "elastic\\\\x", "elastic/.x", "", 5,
     None, "elastic/\u2025/x", "elastic/x\n", "C:/x", "elastic/a b"],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: Any) -> None:
    manifest = {"rules": [], "artefacts": [{"path": path, "sha256": "0" * 64}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(PackError, match="no path in the folder"):
        checked_dist(tmp_path, "elastic")


def test_a_link_out_of_the_folder_a_pipe_and_a_folder_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s")
    dist = listed(tmp_path / "dist", {"elastic/x": sha256(b"s").hexdigest()})
    (dist / "elastic").mkdir()
    (dist / "elastic/x").symlink_to(secret)
    with pytest.raises(PackError, match="lies outside of the folder"):
        checked_dist(dist, "elastic")
    (dist / "elastic/x").unlink()
    os.mkfifo(dist / "elastic/x")
    with pytest.raises(PackError, match="is not a file"):
        checked_dist(dist, "elastic")
    (dist / "elastic/x").unlink()
    (dist / "elastic/x").mkdir()
    with pytest.raises(PackError, match=r"cannot be read|is not a file"):
        checked_dist(dist, "elastic")
    (dist / "elastic/x").rmdir()
    (dist / "elastic").rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"s")
    (dist / "elastic").symlink_to(outside)
    with pytest.raises(PackError, match="lies outside of the folder"):
        checked_dist(dist, "elastic")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rules", "artefacts", "path", "sha256", "id", "name"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(value=VALUES)
def test_any_manifest_is_read_or_refused_with_one_line(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    dist = tmp_path_factory.mktemp("dist")
    (dist / "manifest.json").write_text(json.dumps(value), encoding="utf-8")
    try:
        checked_dist(dist, "elastic")
    except PackError as error:
        assert len(str(error).splitlines()) == 1


# -- what the files hold -------------------------------------------------------------------------------------


def _rule(change: dict[str, Any]) -> tuple[str, bytes]:
    line = (DIST / "elastic/rules.ndjson").read_text("utf-8").split("\n")[0]
    return "elastic/rules.ndjson", json.dumps(json.loads(line) | change).encode()


def _hunt(change: dict[str, Any]) -> tuple[str, bytes]:
    line = (DIST / "elastic/hunting/hunts.ndjson").read_text("utf-8").split("\n")[0]
    return "elastic/hunting/hunts.ndjson", json.dumps(json.loads(line) | change).encode()


def _resource(change: dict[str, Any], **properties: Any) -> tuple[str, bytes]:
    path = "sentinel/azuredeploy/Office365.json"
    template = json.loads((DIST / path).read_text("utf-8"))
    template["resources"] = [template["resources"][0] | change]
    template["resources"][0]["properties"] |= properties
    return path, json.dumps(template).encode()


def _detection(change: dict[str, Any]) -> tuple[str, bytes]:
    path = "defender/detections/suspicious_ews_client.json"
    return path, json.dumps(json.loads((DIST / path).read_text("utf-8")) | change).encode()


HOSTILE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "a rule that is on": lambda: _rule({"enabled": True}),
    "a rule that sends mail": lambda: _rule({"actions": [{"id": "x"}]}),
    "a rule that isolates hosts": lambda: _rule({"response_actions": [{"action_type_id": ".endpoint"}]}),
    "a rule with exceptions": lambda: _rule({"exceptions_list": [{"id": "x"}]}),
    "a rule of nobody": lambda: _rule({"tags": []}),
    "no rule": lambda: ("elastic/rules.ndjson", b'{"list_id": "x"}\n'),
    "no object": lambda: ("elastic/rules.ndjson", b"[1]\n"),
    "fields without a type": lambda: _rule({"required_fields": [{"name": "x"}]}),
    "a dashboard": lambda: _hunt({"type": "dashboard"}),
    "a connector": lambda: _hunt({"type": "action"}),
    "an analytics rule that is on": lambda: _resource({}, enabled=True),
    "another type of resource": lambda: _resource({"type": "Microsoft.Logic/workflows"}),
    "an expression": lambda: _resource({}, description="[listKeys(resourceId('x'), '2020-01-01')]"),
    "a path for a name": lambda: _resource({"name": "[concat(parameters('workspace'),'/../../x')]"}),
    "a version that is a query": lambda: _resource({"apiVersion": "2020-01-01&x=y"}),
    "a detection that is on": lambda: _detection({"status": "enabled"}),
    "a detection that acts": lambda: _detection({"detectionAction": {"responseActions": [{}]}}),
    "a path for an id": lambda: _detection({"id": "../../users/x"}),
    "JSON that never ends": lambda: ("defender/detections/x.json", b"[" * 100_000),
}


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_build_does_not_write_is_not_sent(
    tmp_path: Path, made: Callable[[], tuple[str, bytes]]
) -> None:
    path, content = made()
    name = path.partition("/")[0]
    dist = written(tmp_path / "dist", {path: content})
    asked = asked_for(name, dist, TOKENS, "https://192.0.2.1", None, OPTIONS)
    with pytest.raises(PackError, match="deploy what detection-pack build has written"):
        PRODUCTS[name].opened(asked)


@pytest.mark.parametrize(
    ("option", "value"),
    [("subscription", "x"), ("resource-group", "a/../b"), ("resource-group", "a."), ("resource-group", "ä"),
     ("workspace", "a"), ("workspace", "logs/../x"), ("workspace", ""), ("workspace", "a" * 64)],
)  # fmt: skip
def test_a_name_that_is_a_path_is_refused(option: str, value: str) -> None:
    asked = asked_for("sentinel", DIST, TOKENS, None, None, OPTIONS | {option: value})
    with pytest.raises(PackError, match=f"--{option}"):
        PRODUCTS["sentinel"].opened(asked)

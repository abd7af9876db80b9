"""ATT&CK as MITRE publishes it: a STIX 2.1 bundle, made of any version of ours."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from detection_pack.model.attack import Attack

Object = dict[str, Any]


def stix_file(path: Path, attack: Attack, *more: Object) -> Path:
    """The file of this version, with further objects."""
    path.write_text(json.dumps(bundle(*objects_of(attack), *more)), encoding="utf-8")
    return path


def bundle(*objects: Any) -> Object:
    return {"type": "bundle", "id": f"bundle--{uuid.UUID(int=1)}", "objects": list(objects)}


def objects_of(attack: Attack) -> list[Object]:
    made: list[Object] = [{"type": "x-mitre-collection", "x_mitre_version": attack.version}]
    made += [tactic(one.id, one.name, one.short) for one in attack.tactics.values()]
    made += [technique(one.id, one.name, one.tactics) for one in attack.techniques.values()]
    for old, new in attack.revoked.items():
        made += [technique(old, f"Was {old}", (), revoked=True), revoked_by(old, new)]
    return made


def tactic(key: str, name: str, short: str, **more: Any) -> Object:
    return {"type": "x-mitre-tactic", "name": name, "x_mitre_shortname": short, **_known_as(key), **more}


def technique(key: str, name: str, tactics: tuple[str, ...], **more: Any) -> Object:
    phases = [{"kill_chain_name": "mitre-attack", "phase_name": short} for short in tactics]
    return {
        "type": "attack-pattern",
        "id": stix_id(key),
        "name": name,
        "x_mitre_is_subtechnique": "." in key,
        "kill_chain_phases": phases,
        **_known_as(key),
        **more,
    }


def revoked_by(old: str, new: str) -> Object:
    return {
        "type": "relationship",
        "relationship_type": "revoked-by",
        "source_ref": stix_id(old),
        "target_ref": stix_id(new),
    }


def stix_id(key: str) -> str:
    return f"attack-pattern--{uuid.uuid5(uuid.NAMESPACE_URL, key)}"


def _known_as(key: str) -> Object:
    foreign = {"source_name": "capec", "external_id": "CAPEC-13"}
    return {"external_references": [foreign, {"source_name": "mitre-attack", "external_id": key}]}

"""The products that rules are deployed to, by platform: what opens one, and the commands to do it by hand.

A platform's way in is loaded when it is used: every command asks for the options here, and some platforms
bring an engine along.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from detection_pack.deploy.checked_files import checked_dist
from detection_pack.platforms.deploy_target import DeployRequest, DeployTarget, Environment


@dataclass(frozen=True)
class Product:
    """One product. ``variables`` of the environment hold its credentials; ``options`` are those that it alone
    takes, each with its help. ``whole``: it takes all rules or none."""

    id: str
    title: str
    variables: tuple[str, ...]
    hand: str
    options: Mapping[str, str]
    whole: bool = False

    @property
    def about(self) -> str:
        named = " or ".join(self.variables)
        return f"{self.title}. Credentials: {named}, in the environment. --print shows {self.hand}."

    def opened(self, asked: DeployRequest) -> list[DeployTarget]:
        """What is deployed to, each kind of thing. Raises `PackError`."""
        found: list[DeployTarget] = self._way_in().opened(asked)
        return found

    def steps(self, asked: DeployRequest) -> list[str]:
        """The commands that do the same without this program, a line each. Raises `PackError`."""
        lines: list[str] = self._way_in().steps(asked)
        return lines

    def _way_in(self) -> ModuleType:
        return importlib.import_module(f"detection_pack.platforms.{self.id}.deploy")


_LISTED = (
    Product(
        "elastic",
        "Kibana: rules and Discover sessions",
        ("KIBANA_API_KEY", "KIBANA_USERNAME and KIBANA_PASSWORD"),
        "curl's commands",
        {},
    ),
    Product(
        "splunk",
        "Splunk's management port: the app, and that of a site's lists where it is missing",
        ("SPLUNK_TOKEN", "SPLUNK_USERNAME and SPLUNK_PASSWORD"),
        "the steps for Splunk Cloud",
        {
            "location": "path or https URL where the server finds the archive (default: its path here)",
            "lists-location": "the same for the archive of a site's lists (no default with --location)",
            "save-allow-list": "new file for the rows of the allow-list, which an update of the app empties",
        },
        whole=True,
    ),
    Product(
        "sentinel",
        "Azure Resource Manager: analytics rules and hunting queries",
        ("AZURE_ACCESS_TOKEN",),
        "the az commands",
        {
            "subscription": "the subscription's id",
            "resource-group": "the resource group's name",
            "workspace": "the workspace's name",
        },
    ),
    Product(
        "defender",
        "Microsoft Graph: custom detections",
        ("GRAPH_ACCESS_TOKEN",),
        "PowerShell's commands",
        {},
    ),
)
PRODUCTS: Mapping[str, Product] = {product.id: product for product in _LISTED}


def asked_for(
    product: str,
    dist: Path,
    environment: Environment,
    url: str | None,
    ca_file: Path | None,
    options: Mapping[str, str | None],
) -> DeployRequest:
    """What is asked of a product, with the files of the folder, checked. Raises `PackError`."""
    checked = checked_dist(dist, product)
    given = {name: value for name, value in options.items() if value is not None}
    return DeployRequest(dist, checked.files, environment, url, ca_file, checked.names, given)

"""The products that rules are deployed to, by platform: what opens one, and the commands to do it by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detection_pack.deploy.checked_files import checked_dist
from detection_pack.platforms.defender import deploy as defender
from detection_pack.platforms.deploy_target import DeployRequest, Environment, Opened, Steps
from detection_pack.platforms.elastic import deploy as elastic
from detection_pack.platforms.sentinel import deploy as sentinel
from detection_pack.platforms.splunk import deploy as splunk


@dataclass(frozen=True)
class Product:
    """``options`` are those that this product alone takes, each with its help. ``whole``: it takes all rules
    or none."""

    about: str
    opened: Opened
    steps: Steps
    options: Mapping[str, str]
    whole: bool = False


PRODUCTS: Mapping[str, Product] = {
    "elastic": Product(
        f"Kibana: rules and Discover sessions. Credentials: {elastic.KEY}, or {elastic.USER} and "
        f"{elastic.PASSWORD}, in the environment.",
        elastic.opened,
        elastic.steps,
        {},
    ),
    "splunk": Product(
        f"Splunk's management port: the app. Credentials: {splunk.TOKEN}, or {splunk.USER} and "
        f"{splunk.PASSWORD}, in the environment. --print shows the steps for Splunk Cloud.",
        splunk.opened,
        splunk.steps,
        {
            splunk.LOCATION: "path or https URL where the server finds the archive (default: its path here)",
            splunk.SAVE: "new file for the rows of the allow-list, which an update of the app empties",
        },
        whole=True,
    ),
    "sentinel": Product(
        f"Azure Resource Manager: analytics rules and hunting queries. Credentials: {sentinel.TOKEN} in the "
        "environment. --print shows the az commands.",
        sentinel.opened,
        sentinel.steps,
        {
            sentinel.SUBSCRIPTION: "the subscription's id",
            sentinel.GROUP: "the resource group's name",
            sentinel.WORKSPACE: "the workspace's name",
        },
    ),
    "defender": Product(
        f"Microsoft Graph: custom detections. Credentials: {defender.TOKEN} in the environment. --print "
        "shows the commands.",
        defender.opened,
        defender.steps,
        {},
    ),
}


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

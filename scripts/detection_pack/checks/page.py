"""docs/checks.md: every check by its id, for whoever meets one in a report."""

from __future__ import annotations

from detection_pack.checks import conventions
from detection_pack.checks.catalogue import catalogue


def page() -> str:
    """The page, in Markdown."""
    lines = [
        "# Checks",
        "",
        "What `detection-pack validate` finds, by the code in brackets after each finding, which is the id",
        "in its JSON and SARIF output. `detection-pack validate --explain CODE` shows an example, too.",
        "This page is made by",
        "`python -m detection_pack.checks.page > docs/checks.md`, from the package's `checks/catalogue.yml`.",
        "",
    ]
    for info in catalogue().values():
        mark = " (warning)" if info.severity == "warning" else ""
        lines += [f"## {info.id}{mark}", "", f"{info.about}. {info.help}", "", info.mend, ""]
    lines += [
        "## Conventions",
        "",
        "Validators of pySigma and of SigmaHQ.",
        f"`{conventions.CONFIGURATION}` says which do not run, and why.",
        "In a rule of the pack a finding is an error, in anybody else's a warning.",
        "",
        "| check | what it is about |",
        "|---|---|",
    ]
    rows = conventions.catalogue().values()
    lines += [f"| `{info.id}` | {info.about.replace('|', chr(92) + '|')} |" for info in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")

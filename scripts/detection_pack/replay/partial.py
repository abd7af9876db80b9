"""What an export cannot hold of what the chosen rules read."""

from __future__ import annotations

from collections.abc import Iterator

from detection_pack.model.export_form import CONSTANT, ExportForm, origin_columns
from detection_pack.model.findings import Finding
from detection_pack.model.log_source import LogSource
from detection_pack.replay.export_file import ExportFile


def gaps(
    file: ExportFile, source: LogSource, form: ExportForm, wanted: frozenset[str] | None
) -> Iterator[Finding]:
    """One finding, if fields of ``wanted`` (None: not known) have no place in the form, no column in the
    file, or are not given back exactly. A form that keeps the record as it is has a place for every field."""
    if wanted is None or not form.fields:
        return
    declared = {name for name in wanted if name in source.fields}
    lost = sorted(name for name in declared if not _stated(name, file, form))
    vague = sorted(declared.intersection(form.partial) - set(lost))
    said = []
    if lost:
        said.append(f"has nothing for {', '.join(lost)}")
    if vague:
        said.append(f"does not give back exactly {', '.join(vague)}")
    if said:
        what = f"{form.title}: {' and '.join(said)}, which the chosen rules read"
        yield Finding(file.label, 1, what, "export the raw records, or all columns", severity="warning")


def _stated(name: str, file: ExportFile, form: ExportForm) -> bool:
    head, dot, _ = name.partition(".")
    if dot and name not in form.fields and head in form.fields:
        return _stated(head, file, form)
    if name not in form.fields:
        return form.keep and (file.table is None or name in file.table.header)
    columns = origin_columns(form.fields[name])
    constant = isinstance(form.fields[name], dict) and CONSTANT in form.fields[name]
    header = file.table.header if file.table is not None else None
    if constant or header is None:
        return True
    spelled = {*header, *(form.names.get(name, name) for name in header)}
    return any(one in spelled or any(name.startswith(f"{one}.") for name in spelled) for one in columns)

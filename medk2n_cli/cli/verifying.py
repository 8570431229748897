"""`medk2n verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.errors import OutputError
from medk2n_cli.verifying.verify import verify


def verify_result(folder: Path, quiet: bool) -> dict[str, Any]:
    """What was looked at; findings are an error, after all of them were shown.

    Raises:
        OutputError: NO_RESULT, or VERIFY_FAILED with the number of findings.
    """
    seen = verify(folder)
    if seen.findings:
        if not quiet:
            console(stderr=True).print(table("", ("where", "problem"), [(f.where, f.problem) for f in seen.findings]))
        first = seen.findings[0]
        raise OutputError(
            f"{folder} is not what was written: {len(seen.findings)} findings, first {first.where}: {first.problem}.",
            next_step="Do not use it; make it again with medk2n synthesize --overwrite.",
            code="VERIFY_FAILED",
        )
    return {"out": str(folder), "files": seen.files, "dicom_objects": seen.instances, "volumes": seen.series}


def show_verified(data: dict[str, Any]) -> None:
    """One line."""
    console().print(
        f"{data['out']}: {data['files']} files as written, {data['volumes']} volumes read back, "
        f"{data['dicom_objects']} DICOM objects, all marked synthetic",
        markup=False,
    )

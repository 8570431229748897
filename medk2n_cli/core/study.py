"""What a folder holds: series, and which of them stands for which modality."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality


@dataclass(frozen=True, eq=False)
class Series:
    """One image of a study, known from its headers alone.

    Attributes:
        label: how the user names it: path below the study's root.
        files: the files it is read from.
        grid: where its voxels are; None where the header could not be read.
        modality: which contrast, or None where unknown.
        evidence: why we think so, in words; empty where unknown.
        unused: why it is not used, in words; None where it is.
        code: stable word for the reason in `unused`.
        notes: sentences a reader of the report should see.
    """

    label: str
    files: tuple[Path, ...]
    grid: Grid | None
    modality: Modality | None = None
    evidence: str = ""
    unused: str | None = None
    code: str = ""
    notes: tuple[str, ...] = ()

    def refused(self, code: str, reason: str) -> Series:
        """The same series, not used, and why."""
        return replace(self, unused=reason, code=code)


@dataclass(frozen=True, eq=False)
class Study:
    """All series found under `root`, used or not."""

    root: Path
    series: tuple[Series, ...]

    def chosen(self) -> dict[Modality, Series]:
        """The one series of each modality, in slot order.

        Raises:
            StudyError: two series claim one modality (the message names both), or nothing can be used.
        """
        found: dict[Modality, Series] = {}
        for series in self.series:
            if series.unused is not None or series.modality is None:
                continue
            rival = found.setdefault(series.modality, series)
            if rival is not series:
                name = series.modality.value
                raise StudyError(
                    f"Two series look like {name}: {rival.label} ({rival.evidence}) and {series.label} ({series.evidence}).",
                    next_step=f"Choose one with --use {name}={series.label}.",
                    code="DUPLICATE_MODALITY",
                )
        if not found:
            raise _nothing_error(self)
        return {m: found[m] for m in Modality if m in found}

    def without(self, modalities: Iterable[Modality]) -> Study:
        """The study as if these modalities had not been acquired (``--ignore``)."""
        ignored = frozenset(modalities)
        series = (
            s.refused("IGNORED", "ignored on request") if s.modality in ignored and not s.unused else s for s in self.series
        )
        return Study(self.root, tuple(series))


def _nothing_error(study: Study) -> StudyError:
    refused = [s for s in study.series if s.unused]
    if not study.series:
        return StudyError(
            f"No NIfTI image found in {study.root}.",
            next_step="Point --in at a folder of .nii or .nii.gz files, or at the files themselves.",
            code="NOTHING_FOUND",
        )
    first = refused[0]
    return StudyError(
        f"None of the {len(study.series)} files in {study.root} can be used; the first, {first.label}: {first.unused}.",
        next_step="See every file and its reason with: medk2n scan " + str(study.root) + ", then name one with --use T1=FILE.",
        code=first.code or "NOTHING_USABLE",
    )

"""What a folder holds: series, and which of them stands for which modality."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality

CLOSED, CLOSED_FOLDER, ZIPPED, A_FOLDER = "CLOSED", "CLOSED_FOLDER", "ZIPPED", "a folder"
_OPENING = {CLOSED: "Make it readable", CLOSED_FOLDER: "Make it readable", ZIPPED: "Unpack it, or give it to --in alone"}
_LONGEST_NUMBER = 12  # characters of a DICOM integer string (PS3.5 6.2); Python refuses to read thousands of digits


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
        frames: of DICOM, the frame of each slice in `files`, slices in order along the grid's k axis; else empty.
        names: of DICOM, what else the user may call it: series number, description, UID.
        study: of DICOM, the study's UID.
        patient: of DICOM, a digest that tells patients apart and names none; of NIfTI, the subject that its name tells, if any.
        session: of NIfTI, the visit that its name tells, if any.
    """

    label: str
    files: tuple[Path, ...]
    grid: Grid | None
    modality: Modality | None = None
    evidence: str = ""
    unused: str | None = None
    code: str = ""
    notes: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    study: str = ""
    patient: str = ""
    session: str = ""

    @property
    def is_dicom(self) -> bool:
        """Whether it came from DICOM files."""
        return bool(self.study or self.names or self.frames)

    @property
    def is_closed(self) -> bool:
        """Whether the system did not let us read it, or it lies in an archive."""
        return self.code in (CLOSED, CLOSED_FOLDER, ZIPPED)

    @property
    def shown(self) -> str:
        """The label for reports: a file without its folders, which in an export carry patients' names."""
        return self.label if self.is_dicom else self.label.rsplit("/", 1)[-1] or A_FOLDER

    @property
    def own_grid(self) -> Grid:
        """Where its voxels are.

        Raises:
            ValueError: its header could not be read; such a series is never chosen.
        """
        if self.grid is None:
            raise ValueError(f"series {self.label} has no grid")
        return self.grid

    @property
    def number(self) -> int | None:
        """The DICOM series number."""
        first = self.names[0] if self.names else ""
        return int(first) if first.isascii() and first.isdigit() and len(first) <= _LONGEST_NUMBER else None

    def unreadable(self, code: str, reason: str) -> StudyError:
        """The error to raise when its voxels turn out not to be usable."""
        name = self.modality.value if self.modality else "it"
        what, label = ("series", f"Series {self.label}") if self.is_dicom else ("file", self.label)
        return StudyError(
            f"{label} cannot be used: {reason}.",
            next_step=f"Export the {what} again, or leave {name} out with --ignore {name}.",
            code=code,
        )

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
        self._check_one()
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

    def _check_one(self) -> None:
        """One patient, one study: anything else is a question, not a guess."""
        used = [s for s in self.series if s.is_dicom and s.unused is None]
        if len({s.patient for s in used}) > 1:
            raise StudyError(
                f"{self.root} holds images of {len({s.patient for s in used})} patients.",
                next_step="Point --in at one patient's folder, or choose one study with --study UID (medk2n scan lists them).",
                code="SEVERAL_PATIENTS",
            )
        studies = sorted({s.study for s in used})
        if len(studies) > 1:
            raise StudyError(
                f"{self.root} holds {len(studies)} studies: {', '.join(studies)}.",
                next_step=f"Choose one with --study {studies[0]}.",
                code="SEVERAL_STUDIES",
            )
        self._check_names([s for s in self.series if not s.is_dicom and s.unused is None])

    def _check_names(self, used: list[Series]) -> None:
        """NIfTI has no patient but in its name, where it follows BIDS or BraTS."""
        for code, what, told in (
            ("SEVERAL_PATIENTS", "subjects", {s.patient for s in used} - {""}),
            ("SEVERAL_STUDIES", "sessions", {s.session for s in used} - {""}),
        ):
            if len(told) > 1:
                raise StudyError(
                    f"{self.root} holds images of {len(told)} {what}, by the files' names.",
                    next_step="Point --in at the folder or the files of one; medk2n batch takes them one by one.",
                    code=code,
                )

    def of(self, uid: str) -> Study:
        """The series of one DICOM study alone (``--study``).

        Raises:
            StudyError: no series belongs to it.
        """
        mine = tuple(s for s in self.series if s.study == uid)
        if not mine:
            raise StudyError(
                f"{self.root} holds no study {uid}.",
                next_step="List what it holds: medk2n scan " + str(self.root),
                code="STUDY_NOT_FOUND",
            )
        return Study(self.root, mine)

    def nameless(self) -> Study:
        """The same study with labels that carry no free text: in names of files and descriptions patients are named."""
        return replace(self, series=tuple(replace(s, label=_plain_label(n, s)) for n, s in enumerate(self.series, 1)))

    def require_open(self) -> None:
        """Check that nothing was closed to us: whatever seems to be missing may lie there.

        Raises:
            StudyError: CLOSED, CLOSED_FOLDER, ZIPPED.
        """
        for one in self.series:
            if one.is_closed:
                raise StudyError(
                    f"{one.label}: {one.unused}, and it may be a contrast that seems to be missing.",
                    next_step=f"{_OPENING[one.code]}, or say which contrasts to make: --want T2,FLAIR.",
                    code=one.code,
                )

    def require_dicom(self) -> None:
        """Check that what is used came from DICOM, so that a DICOM series can be derived from it.

        Raises:
            StudyError: NO_DICOM_INPUT, naming the first series that did not.
        """
        for modality, one in self.chosen().items():
            if not one.study:
                raise StudyError(
                    f"{modality.value} ({one.label}) is no DICOM series of a study, so no DICOM series can be derived from it.",
                    next_step=f"Write NIfTI with --format nifti, or leave it out with --ignore {modality.value}.",
                    code="NO_DICOM_INPUT",
                )

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
            f"No NIfTI or DICOM image found in {study.root}.",
            next_step="Point --in at a folder of DICOM, .nii or .nii.gz files, or at the files themselves.",
            code="NOTHING_FOUND",
        )
    first = refused[0]
    return StudyError(
        f"None of the {len(study.series)} series in {study.root} can be used; the first, {first.label}: {first.unused}.",
        next_step="See every file and its reason with: medk2n scan " + str(study.root) + ", then name one with --use T1=FILE.",
        code=first.code or "NOTHING_USABLE",
    )


def _plain_label(place: int, one: Series) -> str:
    return f"series {one.number}" if one.number is not None else f"file {place}"

"""What the card claims, checked on a patient the weights never saw, through the tool's own line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.aligning.align import Alignment, align
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput, ModelOutput
from medk2n_cli.model.session import Session, run
from medk2n_cli.packing.pack import pack
from medk2n_cli.pipeline import Request, open_weights, synthesise
from medk2n_cli.reading.scan import load, scan

T1, T1C, T2, FLAIR, DWI, ADC = Modality


@pytest.fixture(scope="module")
def session() -> Session:
    return open_weights()


@pytest.fixture(scope="module")
def given(open_ms: Path) -> ModelInput:
    """T1, T2 and FLAIR of a held-out patient, every fourth slice."""
    chosen = scan([open_ms / "cross_sectional_19"]).chosen()
    packed = pack(align(load({m: chosen[m] for m in (T1, T2, FLAIR)}), Alignment(register=False)))
    return replace(packed.input, stack=packed.input.stack[:, 10:110:4])


def spoiled(given: ModelInput, number: int, how: str) -> ModelInput:
    stack = given.stack.copy()
    x = stack[number]
    if how == "noise":
        stack[number] = np.abs(np.random.default_rng(0).normal(0, 0.5, x.shape)).clip(0, 2) * (x > 0)
    elif how == "shift":
        stack[number] = np.roll(x, (7, 7), (-2, -1))
    return replace(given, stack=stack)


def gates(output: ModelOutput) -> list[float]:
    return [float(g) for g in np.median(output.gate[:, 0], axis=0)]


def test_good_auxiliaries_are_let_in_and_spoiled_ones_shut_out(session: Session, given: ModelInput) -> None:
    clean = run(session, given, [T1C])
    key = int(clean.key[0])
    assert gates(clean) == [1.0, 1.0, 1.0]
    for aux in (n for n in range(3) if n != key):
        for how in ("noise", "shift"):
            output = run(session, spoiled(given, aux, how), [T1C])
            assert gates(output)[aux] == 0.0, f"{given.have[aux].value} spoiled by {how}"


def test_a_shut_out_input_and_an_absent_one_give_the_same_image(session: Session, given: ModelInput) -> None:
    key = int(run(session, given, [T1C]).key[0])
    aux = next(n for n in range(3) if n != key)
    with_noise = run(session, spoiled(given, aux, "noise"), [T1C])
    rest = [n for n in range(3) if n != aux]
    absent = run(session, ModelInput(given.stack[rest], tuple(given.have[n] for n in rest)), [T1C])
    assert np.abs(with_noise.synthesised - absent.synthesised).max() < 1e-4


def test_the_inputs_are_named_right(session: Session, given: ModelInput) -> None:
    t1, t2, flair = run(session, given, [T1C]).input_identity.mean(0)
    slots = session.weights.card.modalities
    assert [slots[int(np.argmax(one))] for one in (t2, flair)] == [T2, FLAIR]
    of_t1, of_t1c = (float(t1[slots.index(m)]) for m in (T1, T1C))
    assert of_t1 + of_t1c > 0.8
    assert of_t1c < 0.6, "hardly anything enhances in this patient's T1C (see the card); the tool warns from 0.8 on"


def test_two_swapped_files_are_noticed(open_ms: Path, session: Session) -> None:
    study = open_ms / "longitudinal_04_study1"
    request = Request((study,), (T1C,), use={T1: "T2.nii.gz", T2: "T1.nii.gz"}, ignore=frozenset({FLAIR}))
    said = " ".join(synthesise(request, session).synthesis.report.warnings)
    assert "T2.nii.gz is used as T1" in said
    assert "looks like T2" in said
    assert "T1.nii.gz is used as T2" in said

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medk2n_cli.core.modality import Modality
from medk2n_cli.model.store import Weights, find
from tests import phantom

SHARED = Path(os.environ.get("MEDK2N_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
TINY = Path(__file__).with_name("data") / "tiny.onnx"


@pytest.fixture(scope="session")
def open_ms() -> Path:
    folder = SHARED / "open_ms"
    if not folder.is_dir():
        pytest.skip("the open_ms studies are not on this machine (set MEDK2N_SHARED)")
    return folder


@pytest.fixture(scope="session")
def shared_dicom() -> Path:
    """Real series of many vendors."""
    folder = SHARED / "dicom"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not at hand")
    return folder


@pytest.fixture(scope="session")
def label_maps() -> Path:
    folder = SHARED / "label_maps"
    if not folder.is_dir():
        pytest.skip("the label maps are not on this machine (set MEDK2N_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny() -> Weights:
    """A real Med-K2N graph of a few thousand untrained parameters, made by tests/make_tiny.py."""
    return find(str(TINY))


@pytest.fixture(scope="session")
def head_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T1 and T2 of the formula head, one coarse axial grid."""
    return phantom.write_study(tmp_path_factory.mktemp("study"), (Modality.T1, Modality.T2))

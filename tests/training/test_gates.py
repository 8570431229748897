from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.training import origins as origins_module  # noqa: E402
from medk2n_cli.training.dataset import PackedStudy  # noqa: E402
from medk2n_cli.training.gates import KINDS, GateCase, Synthesised, gate_test, summary, synthesise  # noqa: E402
from medk2n_cli.training.network import MedK2N, Size  # noqa: E402
from medk2n_cli.training.text import text_vectors  # noqa: E402
from medk2n_cli.training.twins import AverageFusion  # noqa: E402

TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)


def study(name: str, seed: int, slots: tuple[int, ...]) -> PackedStudy:
    images = torch.rand((len(slots), 6, 48, 32), generator=torch.Generator().manual_seed(seed)).half()
    head = torch.ones(6, 48, 32, dtype=torch.bool)
    return PackedStudy(name, images, slots, head, ~head, True, head)


def test_every_auxiliary_of_every_subset_is_spoiled_in_turn() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    cases = gate_test(network, study("a", 1, (0, 2, 3)), study("b", 2, (0, 2, 3)))
    assert len(cases) == 3 * len(KINDS), "three pairs of inputs, one target each, one auxiliary each"
    assert {c.kind for c in cases} == set(KINDS)
    for case in cases:
        if not case.opened:
            assert case.db_lost == pytest.approx(0, abs=1e-4), "a closed gate and an absent input give the same image"


def test_a_contrast_the_stranger_lacks_is_left_out() -> None:
    torch.manual_seed(0)
    network = AverageFusion(TINY, text_vectors()).eval()
    cases = gate_test(network, study("a", 1, (0, 2, 3)), study("b", 2, (5,)))
    assert not [c for c in cases if c.kind == "another subject"]
    assert all(c.opened for c in cases), "average fusion has no gate to close"


def test_a_gate_can_be_opened_by_force() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    with torch.no_grad():
        network.threshold.threshold[2].bias.fill_(9.0)  # thresholds at their top: every gate closes
    images, have, want = torch.rand(3, 2, 3, 32, 32), torch.tensor([0, 2]), torch.tensor([3])
    key = int(network.choose_key(have, want)[0])
    assert float(synthesise(network, images, have, want).gates[1 - key]) == 0
    assert float(synthesise(network, images, have, want, 1 - key).gates[1 - key]) == 1


def test_the_summary_names_gates_that_never_change() -> None:
    case = GateCase("a", ("T1", "T2"), "T2", "FLAIR", "clean", True, -0.5, 0.1, 0.2)
    cases = [case, replace(case, kind="noise", opened=False, db_lost=0.0, gain=0.0, measured=-0.3)]
    cases += [replace(c, auxiliary="T1", target="T2", opened=True, gain=c.gain / 2) for c in cases]
    told = summary(cases)
    assert told["open"] == {"clean": 1.0, "noise": 0.5}
    assert told["pairs_never_changing"] == ["T1>T2"]
    assert told["useful_clean_open"] == 1.0


def test_every_origin_is_told_apart() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    told = origins_module.origins(network, [study("a", 1, (0, 2, 3)), study("b", 2, (0, 3))])
    assert set(told) == {"a", "b", "mean"}
    assert set(told["a"]["r2_by_number_of_inputs"]) == {"1", "2"}
    assert told["a"]["r2"] <= told["a"]["r2_window_free"] + 1e-3, "the best window can only help"


def test_whole_heads_are_told_without_their_scalps_too() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    large = study("a", 1, (0, 2))
    whole = replace(
        large,
        images=torch.rand((2, 6, 64, 64)).half(),
        head=torch.ones(6, 64, 64, dtype=torch.bool),
        deep=torch.ones(6, 64, 64, dtype=torch.bool),
        lesion=torch.zeros(6, 64, 64, dtype=torch.bool),
        stripped=False,
    )
    told = origins_module.origins(network, [whole, study("b", 2, (0, 3))])
    assert "r2_deep" not in told["b"], "a stripped brain has no scalp"
    assert told["a"]["r2_deep"] != told["a"]["r2"]
    assert told["mean"]["r2_deep"] == told["a"]["r2_deep"]
    assert told["mean"]["r2"] == pytest.approx((told["a"]["r2"] + told["b"]["r2"]) / 2, abs=1e-3)


def test_a_poor_scalp_leaves_the_deep_part_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.ones(6, 80, 80, dtype=torch.bool)
    deep = head.clone()
    deep[:, : origins_module.DEEP_MM] = False
    whole = PackedStudy("a", torch.rand(2, 6, 80, 80).half(), (0, 2), head, ~head, False, deep)

    def poor(network: object, images: torch.Tensor, have: torch.Tensor, want: torch.Tensor) -> Synthesised:
        made = whole.images[whole.slots.index(int(want))].float().clone()
        made[:, : origins_module.DEEP_MM] = 0
        return Synthesised(made, made, torch.ones(1), torch.zeros(1))

    monkeypatch.setattr(origins_module, "synthesise", poor)
    told = origins_module.origins(MedK2N(TINY, text_vectors()), [whole])["a"]
    assert told["r2_deep"] == pytest.approx(1.0)
    assert told["r2"] < 0.5

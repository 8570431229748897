"""What was measured, as Markdown: the part of weights/README.md between its markers, made from the card alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

START, END = "<!-- measured -->", "<!-- /measured -->"
# PSNR in dB, Med-K2N (arXiv 2510.02815) table 1, the rows that do not depend on which T1 is which.
PAPER = {"T2": 27.05, "FLAIR": 26.21, "T2+FLAIR": 27.68, "T1+T1C": 27.92, "T1+T1C+FLAIR": 28.73, "T1+T1C+T2": 28.41}
NAMES = {
    "constant": "(0) constant",
    "matched": "(a) histogram-matched",
    "quadratic": "(b) quadratic regression",
    "average": "(c) average fusion",
    "mm-synthesis": "(d) MM-Synthesis",
}
Told = Mapping[str, Any]


def measured(metrics: Told) -> str:
    """All tables that `metrics` of a card holds the numbers for."""
    parts = [_study(name, told) for name, told in metrics.items() if "protocol_H" in told]
    parts += [_trust(metrics), _gates(metrics), _lesions(metrics), _origins(metrics)]
    return "\n\n".join(part for part in parts if part)


def replaced(readme: str, metrics: Told) -> str:
    """`readme` with what stands between the markers made anew.

    Raises:
        ValueError: a marker is missing.
    """
    head, rest = readme.split(START, 1)
    _, tail = rest.split(END, 1)
    return f"{head}{START}\n{measured(metrics)}\n{END}{tail}"


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _study(name: str, told: Told) -> str:
    order = ["medk2n", *NAMES]
    methods = sorted(told["protocol_H"], key=lambda m: order.index(m) if m in order else len(order))
    h, w = told["protocol_H"], told["protocol_W"]
    scores = ("r2", "psnr", "ssim")
    own = told.get("own_level")  # not in cards from before there was a level step
    means = [
        (NAMES.get(m, f"**{m}**"), *(f"{h[m][k]:.3f}" for k in scores), *(f"{t[m]['r2']:.3f}" for t in (own, w) if t))
        for m in methods
    ]
    header = ("", "R2", "PSNR dB", "SSIM", *(["R2 at its own level"] if own else []), "R2 after best window (protocol W)")
    by_subset, p = told["protocol_H_r2_by_subset"], told["protocol_P_psnr_by_subset"]
    shown = [m for m in methods if m != "constant"]
    rows = [
        (s, *(f"{by_subset[m][s]:.3f}" if s in by_subset[m] else "" for m in shown), f"{p[s]:.2f}", PAPER.get(s, ""))
        for s in by_subset["medk2n"]
    ]
    by_count = ", ".join(f"{k}: {v:.3f}" for k, v in told["r2_by_number_of_inputs"].items())
    return "\n\n".join(
        (
            f"### {name}",
            f"Mean over all {told['subsets']} proper subsets of inputs (each the mean over its missing contrasts):",
            _table(header, means),
            _table(
                ("inputs", *(f"R2 {NAMES.get(m, m).split(' ')[0]}" for m in shown), "protocol P, PSNR dB", "paper (tumours)"),
                rows,
            ),
            f"R2 by number of inputs: {by_count}.",
        )
    )


def _trust(metrics: Told) -> str:
    studies = {name: told for name, told in metrics.items() if "protocol_H" in told}
    if not studies:
        return ""
    keys = {
        "inputs_named_right": "inputs named right by `input_identity`",
        "inputs_named_right_but_for_agent": "the same, T1 and T1C counted as one",
        "synthesised_named_right": "synthesised images named right by `identity`",
        "quality_spearman_volumes": "predicted against measured SSIM, Spearman, volumes",
        "quality_spearman_slices": "the same, slices",
        "expected_error_rank": "expected against true error of voxels, Spearman",
        "expected_error_rank_near": "the same, means over 5 x 5 mm",
    }
    known = {key: label for key, label in keys.items() if any(key in told for told in studies.values())}
    rows = [(label, *(_number(told.get(key)) for told in studies.values())) for key, label in known.items()]
    fifths = [
        (
            f"fifth {n + 1} of the slices",
            *("{:.2f} / {:.2f}".format(*told["quality_calibration"][n]) for told in studies.values()),
        )
        for n in range(5)
    ]
    head = ("", *studies)
    calibration = "SSIM predicted / measured, slices by rising prediction:"
    return "\n\n".join(("### Identity, quality, expected error", _table(head, rows), calibration, _table(head, fifths)))


def _number(value: object) -> str:
    return "" if value is None else f"{float(str(value)):.3f}"


def _gates(metrics: Told) -> str:
    tests = {name: told for name, told in metrics.items() if "within_0.1_dB" in told}
    if not tests:
        return ""
    parts = ["### The gate test"]
    for name, told in tests.items():
        within, lost = told["within_0.1_dB"], told["mean_dB_lost"]
        rows = [
            (kind, told["cases"][kind], f"{share:.0%}", f"{within[kind]:.0%}", f"{lost[kind]:+.2f}")
            for kind, share in told["open"].items()
        ]
        header = ("auxiliary", "cases", "gate open", "within 0.1 dB of the run without it, or better", "mean dB lost by it")
        parts += [f"{name}:", _table(header, rows)]
        if told.get("gated", True):  # a twin has no gates to tell of
            parts.append(_gates_closed(told))
    return "\n\n".join(parts)


def _gates_closed(told: Told) -> str:
    constant = ", ".join(told["pairs_never_changing"]) or "none"
    return (
        f"Clean auxiliaries that help (by 1 % of the error or more): {_share(told['useful_clean_open'])} of "
        f"{told['useful_clean']} let in. {_gains(told)} Pairs whose gate never changed: {constant}."
    )


def _gains(told: Mapping[str, Any]) -> str:
    """The rank of predicted gains; and what it is a rank of, since gains that are all alike have none."""
    said = f"Predicted against measured gain: Spearman {_number(told['gain_spearman'])}"
    if "measured_gain" not in told:
        return said + "."
    let_in = ", ".join(f"{kind} {gain:+.1%}" for kind, gain in told["measured_gain"].items())
    clean = _number(told["gain_spearman_clean"])
    return f"{said}, of clean auxiliaries alone {clean}; by how much an open gate lowers the error: {let_in}."


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _lesions(metrics: Told) -> str:
    told = metrics.get("lesions")
    parts = [_contrast_kept(told), _dice(told["dice_FLAIR"]), _all_invented(told)] if told else []
    return "\n\n".join(["### Lesions", *filter(None, parts)]) if parts else ""


def _contrast_kept(told: Told) -> str:
    """Medians by contrast and kind of lesion, and whose lesions these are."""
    rows = [
        (
            name,
            kept["lesions"],
            f"{kept['median']:.0%}",
            ", ".join(f"{k} {v:.0%}" for k, v in kept["by_inputs"].items()),
            "; ".join(f"{k}: {v:.0%}" for k, v in kept.items() if k.endswith("mm3")),
        )
        for name, kept in told["contrast_kept"].items()
    ]
    if not rows:
        return ""
    subjects = "; ".join(
        f"{kind}: " + (", ".join(names) if kind == "MS lesion" else f"{len(names)} simulated heads")
        for kind, names in told["subjects"].items()
    )
    heads = "Simulated heads are slabs of 48 mm, from label maps that training used too."
    table = _table(("contrast to the surroundings kept", "lesions x subsets", "median", "by inputs", "by size"), rows)
    return f"{table}\n\n{subjects}. {heads}"


def _dice(told: Told) -> str:
    if not told:
        return ""
    numbers = "; ".join(f"{name}: {d['made']:.2f} against {d['real']:.2f}" for name, d in told.items())
    return f"Dice of the best threshold on synthesised against acquired FLAIR: {numbers}."


def _all_invented(told: Told) -> str:
    keys = {"all of the brain": "invented_ml_in_healthy_heads", "white matter": "invented_ml_in_healthy_white_matter"}
    rows = [_invented(place, told[key]) for place, key in keys.items() if told.get(key)]
    if not rows:
        return ""
    table = _table(("ml", "heads", "mean", "median", "at most", "mean by inputs"), rows)
    return f"Hyperintensity invented in the FLAIR of healthy simulated heads, from all subsets of T1, T1C and T2:\n\n{table}"


def _invented(place: str, told: Told) -> tuple[object, ...]:
    by_inputs = ", ".join(f"{k} {v:.2f}" for k, v in told["mean_by_inputs"].items())
    numbers = (f"{told[key]:.2f}" for key in ("mean", "median", "max"))
    return (place, told["heads"], *numbers, by_inputs)


def _origins(metrics: Told) -> str:
    found = {name: told for name, told in metrics.items() if "mean" in told and "steps" in told}
    if not found:
        return ""
    studies = [s for s in next(iter(found.values())) if s not in ("steps", "trained_on", "mean")]
    rows = [(s, *(_origin(told, s) if s in told else "" for told in found.values())) for s in studies]
    header = ("R2, mean over subsets", *(f"{name} ({told['steps']} steps)" for name, told in found.items()))
    rows.append(("mean of those never trained on", *(_unseen_mean(told, studies) for told in found.values())))
    meaning = (
        "*: trained on, so this only says how well it was learned. W: after the best window. Deep: of whole heads, 22 mm and\n"
        "more under the mask's edge, after the best window."
    )
    return "\n\n".join(("### Origins, each apart", _table(header, rows), meaning))


def _origin(told: Told, study: str) -> str:
    """One study's cell."""
    row, more = told[study], {"W": "r2_window_free", "deep": "r2_deep_window_free"}
    parts = [f"{row['r2']:.3f}", *(f"{name} {row[key]:.3f}" for name, key in more.items() if key in row)]
    return ", ".join(parts) + (" *" if study in told.get("trained_on", ()) else "")


def _unseen_mean(told: Told, studies: Iterable[str]) -> str:
    if "trained_on" not in told:
        return ""
    scores = [told[s]["r2"] for s in studies if s in told and s not in told["trained_on"]]
    return f"{sum(scores) / len(scores):.3f} ({len(scores)} studies)" if scores else ""

"""`medk2n inspect-weights`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.errors import WeightsError
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.graph import gate_path, read_nodes
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import find


def inspect(which: str | None) -> dict[str, Any]:
    """The card, checked against the file: digest, graph contract, gate nodes.

    Raises:
        WeightsError: not found, damaged, foreign, or a graph whose gate is not decided in the graph.
    """
    weights = find(which)
    session = open_session(weights, choose_device("cpu", 1))
    nodes = read_nodes(weights.file)
    gates = gate_path(nodes)
    if not gates:
        raise WeightsError(
            f"{weights.file.name} has no node that compares w_global with the threshold: its gate is not in the graph.",
            next_step="Export the weights again: python -m medk2n_cli.training export",
            code="NO_GATE",
        )
    shapes = {
        "inputs": {i.name: [str(d) for d in i.shape] for i in session.runtime.get_inputs()},
        "outputs": {o.name: [str(d) for d in o.shape] for o in session.runtime.get_outputs()},
    }
    return {
        "file": weights.file.name,
        "bytes": weights.file.stat().st_size,
        "verified": True,
        "card": weights.card.to_dict(),
        "graph": {**shapes, "nodes": len(nodes), "gate": [str(n) for n in gates]},
    }


def show_inspection(data: dict[str, Any]) -> None:
    """The same for people."""
    out, card = console(), data["card"]
    out.print(
        f"{card['name']} {card['version']}  ({data['file']}, {data['bytes'] / 2**20:.1f} MB, {card['licence']})", markup=False
    )
    out.print(f"sha256 {card['sha256']}, verified", markup=False)
    out.print(f"slots {', '.join(card['slots'])}; {card['neighbours']} slices at once; {card['normalisation']}", markup=False)
    out.print(f"intended use: {card['intended_use']}\n", markup=False)
    out.print(table("parameters", ("module", "count"), [(k, f"{v:,}") for k, v in card["parameters"].items()], right=(1,)))
    _show_graph(out, data["graph"])
    rows = [
        (p["source"], p["target"], *(f"{p[k]:.2f}" for k in ("affinity", "gate", "w_eff")), f"{p['gain']:+.3f}")
        for p in card["pairs"]
    ]
    out.print()
    title = "pairs: learned affinity; mean gate, weight and relative gain of a clean input in training"
    out.print(table(title, ("source", "target", "affinity", "gate", "w_eff", "gain"), rows, right=(2, 3, 4, 5)))
    for title in ("training", "metrics"):
        out.print(f"\n{title}", style="bold")
        _show_plain(out, card[title], "  ")
    out.print("\nlimits", style="bold")
    for limit in card["limits"]:
        out.print(f"  - {limit}", markup=False)


def _show_graph(out: Console, graph: dict[str, Any]) -> None:
    rows = [(kind[:-1], name, " x ".join(shape)) for kind in ("inputs", "outputs") for name, shape in graph[kind].items()]
    out.print()
    out.print(table(f"graph contract, checked ({graph['nodes']} nodes)", ("", "name", "shape"), rows))
    out.print("\ngate nodes as they stand in the graph", style="bold")
    for node in graph["gate"]:
        out.print(f"  {node}", markup=False)


def _show_plain(out: Console, value: dict[str, Any], indent: str) -> None:
    for key, entry in value.items():
        if isinstance(entry, dict):
            out.print(f"{indent}{key}", markup=False)
            _show_plain(out, entry, indent + "  ")
        else:
            out.print(f"{indent}{key}: {entry}", markup=False)

"""What is there, what is wanted -> targets. Refuse now, not after minutes of work."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.modality import Modality
from medk2n_cli.model.card import ModelCard


def plan(card: ModelCard, acquired: Collection[Modality], want: Sequence[Modality] | None) -> tuple[Modality, ...]:
    """The targets in slot order; `want` None asks for every modality the weights know and the study lacks.

    Raises:
        RequestError: a wanted modality is acquired already or unknown to the weights, no acquired one is known
            to them, or nothing is left to make.
    """
    slots = card.modalities
    usable = [m for m in acquired if m in slots]
    if not usable:
        raise RequestError(
            f"The weights '{card.name}' know {', '.join(card.slots)}; the study holds none of them.",
            next_step="Name a file with --use T1=FILE, or choose other weights with --weights.",
            code="NO_USABLE_INPUT",
        )
    if want is None:
        targets = [m for m in slots if m not in acquired]
        if not targets:
            raise RequestError(
                "Nothing is missing: the study holds every modality the weights know.",
                next_step="Ask for one with --want FLAIR --ignore FLAIR to compare it with the acquired one.",
                code="NOTHING_MISSING",
            )
        return tuple(targets)
    for modality in want:
        _check(modality, card, acquired)
    return tuple(m for m in slots if m in want)


def _check(modality: Modality, card: ModelCard, acquired: Collection[Modality]) -> None:
    name = modality.value
    if modality not in card.modalities:
        raise RequestError(
            f"The weights '{card.name}' cannot make {name}; they know {', '.join(card.slots)}.",
            next_step="Ask for one of these, or choose other weights with --weights.",
            code="UNKNOWN_TO_WEIGHTS",
        )
    if modality in acquired:
        raise RequestError(
            f"{name} is wanted, but the study holds an acquired {name}.",
            next_step=f"Leave it out of --want, or add --ignore {name} to synthesise it anyway.",
            code="ALREADY_ACQUIRED",
        )

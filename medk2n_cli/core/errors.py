"""Failures a user can act on: each says what happened and names the next command."""

from __future__ import annotations


class Medk2nError(Exception):
    """Base of every failure that is not our bug.

    Args:
        problem: one line, what happened.
        next_step: one line, what to type or change next. Required: an error is not finished without it.
        code: short stable word for scripts, e.g. ``DUPLICATE_MODALITY``.
    """

    exit_code = 1

    def __init__(self, problem: str, *, next_step: str, code: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step
        self.code = code or type(self).__name__

    def to_dict(self) -> dict[str, str]:
        """The three keys that ``--json`` prints for each error."""
        return {"code": self.code, "problem": self.problem, "next_step": self.next_step}


class StudyError(Medk2nError):
    """What is in the study cannot be used (exit code 3)."""

    exit_code = 3


class RequestError(Medk2nError):
    """What was asked for cannot be made from what is there (exit code 4)."""

    exit_code = 4


class WeightsError(Medk2nError):
    """The weights are missing, damaged or not what their card says (exit code 5)."""

    exit_code = 5


class OutputError(Medk2nError):
    """The result cannot be written (exit code 6)."""

    exit_code = 6


class DeviceError(Medk2nError):
    """The asked device cannot run the weights (exit code 7)."""

    exit_code = 7

"""Runs one command again and again in forked children and kills each at a random moment, until so many were killed.

Usage: killing.py KILLS SEED LONGEST_S COMMAND...   Prints how many runs were killed and how many came to their end.
Forked, since a process of its own would spend most of its life importing.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pydicom  # noqa: F401 - imported once here, so that the children are at work at once

import medk2n_cli.cli.batching
import medk2n_cli.writing.page  # noqa: F401
from medk2n_cli.cli.app import main


def child(words: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        sys.argv = ["medk2n", *words]
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            main()
        except SystemExit as leaving:
            os._exit(int(leaving.code or 0))
        os._exit(0)
    return pid


def ended(pid: int, after: float) -> bool:
    """Whether the child comes to its own end within `after` seconds; killed otherwise."""
    until = time.monotonic() + after
    while time.monotonic() < until:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return True
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


if __name__ == "__main__":
    kills, seed, longest, words = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    chance, killed, whole = random.Random(seed), 0, 0
    while killed < kills:
        if ended(child(words), chance.uniform(0, longest)):
            whole += 1
            if "--resume" in words:
                words.remove("--resume")  # everything is done: from now on over it all again
                words.append("--overwrite")
        else:
            killed += 1
    print(killed, whole)

"""`medk2n config`: every option of every command, its value, and whence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medk2n_cli.cli.settings import options_of, settings, settings_file
from medk2n_cli.cli.tables import console, table


def configuration(group: Any) -> dict[str, Any]:
    """What holds where nothing is said on the command line.

    Raises:
        RequestError: see `settings`.
    """
    known, here = options_of(group), Path.cwd()
    found = settings(known, os.environ, here)
    rows = []
    for command, options in known.items():
        for option, parameter in options.items():
            held = found.get((command, option))
            value = held.value if held else parameter.default
            rows.append(
                {
                    "command": command,
                    "option": option,
                    "value": _plain(value),
                    "from": held.whence if held else "required" if parameter.required else "built in",
                }
            )
    file = settings_file(os.environ, here)
    return {"file": str(file) if file else None, "options": rows}


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def show_configuration(data: dict[str, Any]) -> None:
    """One table; what was set stands out by its source."""
    rows = [(r["command"], r["option"], _said(r["value"]), r["from"]) for r in data["options"]]
    screen = console()
    screen.print(f"file: {data['file'] or 'none'}", markup=False, soft_wrap=True)
    screen.print(table("", ("command", "option", "value", "from"), rows))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)

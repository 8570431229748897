"""Defaults of a site: `medk2n.toml` and MEDK2N_* variables, below the command line and above what is built in.

Order, highest first: the command line; MEDK2N_COMMAND_OPTION; MEDK2N_OPTION; [command] of medk2n.toml; its top level; built in.
The file is the one named by MEDK2N_CONFIG ("none" or empty: no file at all), else ./medk2n.toml, else medk2n/medk2n.toml in the
user's configuration folder.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medk2n_cli.core.errors import RequestError

FILE, PREFIX = "medk2n.toml", "MEDK2N_"
_OF_NO_OPTION = {PREFIX + "CONFIG", PREFIX + "WEIGHTS_DIR"}
_SEPARATOR = ";"  # between values of an option that may be repeated, in a variable
# What belongs to one run is set for one command or not at all: the same --out for all would mix what must stay apart.
_OF_ONE_RUN = {
    "in",
    "out",
    "use",
    "study",
    "part",
    "limit",
    "resume",
    "overwrite",
    "dry_run",
    "modality",
    "to",
    "sha256",
    "watch",
    "cluster",
}
_NOT_SHARED = {("ledger", "weights"), ("audit", "want")}  # there they mean something else
Options = Mapping[str, Mapping[str, Any]]  # command ("weights pull") -> option -> parameter of the command


@dataclass(frozen=True)
class Setting:
    """One option's value, and where it comes from: in words, and the file if it is one."""

    command: str
    option: str
    value: object
    whence: str
    file: Path | None = None


def options_of(group: Any, above: str = "") -> dict[str, dict[str, Any]]:
    """Every option of every command below `group`, by the long name without dashes; `in-plane` is `in_plane`."""
    found: dict[str, dict[str, Any]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= options_of(command, f"{above}{name} ")
        else:
            found[above + name] = {flag: p for p in command.params for flag in _long(p)}
    return found


def _long(parameter: Any) -> list[str]:
    flags = [f for f in parameter.opts if f.startswith("--") and f not in ("--help", "--json")]
    return [_plain(f.removeprefix("--")) for f in flags[:1]]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def settings_file(environment: Mapping[str, str], here: Path) -> Path | None:
    """The file that holds.

    Raises:
        RequestError: NO_CONFIG, MEDK2N_CONFIG names none.
    """
    named = environment.get(PREFIX + "CONFIG")
    if named is not None:
        if named.lower() in ("", "none"):
            return None
        if not Path(named).is_file():
            raise RequestError(
                f"MEDK2N_CONFIG names {named}, which is no file.", next_step="Name one, or unset it.", code="NO_CONFIG"
            )
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or environment.get("APPDATA") or os.path.expanduser("~/.config")
    places = (here / FILE, Path(home) / "medk2n" / FILE)
    return next((p for p in places if p.is_file()), None)


def settings(known: Options, environment: Mapping[str, str], here: Path) -> dict[tuple[str, str], Setting]:
    """What is set, by (command, option).

    Raises:
        RequestError: NO_CONFIG; BAD_CONFIG, the file is no TOML or sets what no command has.
    """
    file = settings_file(environment, here)
    found = {(s.command, s.option): s for s in _from_file(file, known)} if file else {}
    return found | {(s.command, s.option): s for s in _from_variables(environment, known)}


def said_of_here(found: Mapping[tuple[str, str], Setting], command: str, environment: Mapping[str, str], here: Path) -> str:
    """One line where a medk2n.toml that happens to lie in the current folder rules `command`; else nothing."""
    if PREFIX + "CONFIG" in environment:
        return ""  # named on purpose
    ours = (s for (c, _), s in found.items() if f"{c} ".startswith(f"{command} ") and s.file == here / FILE)
    options = ", ".join(sorted({"--" + s.option.replace("_", "-") for s in ours}))
    return f"{FILE} of this folder sets {options} (see medk2n config; to go without it: MEDK2N_CONFIG=none)." if options else ""


def said_of_variables(known: Options, environment: Mapping[str, str]) -> list[str]:
    """One line for each MEDK2N_* variable that sets nothing but looks as if: misspelt, or of an option that is never shared."""
    names = {name for command in known for option in known[command] for name in _variables(command, option, known)}
    names |= _OF_NO_OPTION
    idle = (name for name in sorted(environment) if name.startswith(PREFIX) and name not in names)
    return [f"{name} sets nothing; did you mean {meant}?" for name in idle if (meant := _meant(name, names))]


def _meant(name: str, names: set[str]) -> str:
    """The variable of ours that is nearest; empty where none is near, since a site's scripts may have variables of their own."""
    own = [n for n in sorted(names) if n.endswith("_" + name.removeprefix(PREFIX))]
    near = own or [PREFIX + n for n in _near(name.removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in names])]
    return near[0] if near else ""


def _near(word: str, words: list[str]) -> list[str]:
    return difflib.get_close_matches(word, words, 1, 0.75)


def default_map(found: Mapping[tuple[str, str], Setting], known: Options) -> dict[str, Any]:
    """The same as nested mappings of parameter names, as the command line's parser takes its defaults."""
    made: dict[str, Any] = {}
    for (command, option), setting in found.items():
        inner = made
        for part in command.split():
            inner = inner.setdefault(part, {})
        inner[known[command][option].name] = setting.value
    return made


def _from_file(file: Path, known: Options) -> Iterator[Setting]:
    try:
        stored = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise _bad(file, f"cannot be read: {failure}") from failure
    yield from _shared({_plain(k): v for k, v in stored.items() if not isinstance(v, dict)}, known, file)
    yield from _of_commands({k: v for k, v in stored.items() if isinstance(v, dict)}, known, file)


def _shared(values: Mapping[str, object], known: Options, file: Path) -> Iterator[Setting]:
    for option, value in values.items():
        takers = [c for c in known if _takes(c, option, known)]
        if not takers:
            raise _bad(file, f"sets {option}, which no command has, or which must stand below a [command]")
        yield from (Setting(c, option, value, str(file), file) for c in takers)


def _of_commands(tables: Mapping[str, Any], known: Options, file: Path, above: str = "") -> Iterator[Setting]:
    for name, table in tables.items():
        command = above + name
        if command not in known and any(k.startswith(command + " ") for k in known):
            yield from _of_commands({k: v for k, v in table.items() if isinstance(v, dict)}, known, file, command + " ")
            continue
        for option, value in table.items():
            if _plain(option) not in known.get(command, {}):
                raise _bad(file, f"sets [{command}] {option}, which does not exist")
            yield Setting(command, _plain(option), value, f"{file} [{command}]", file)


def _from_variables(environment: Mapping[str, str], known: Options) -> Iterator[Setting]:
    for command, options in known.items():
        for option, parameter in options.items():
            if name := next((n for n in _variables(command, option, known) if n in environment), ""):
                text = environment[name]
                value = text.split(_SEPARATOR) if getattr(parameter, "multiple", False) else text
                yield Setting(command, option, value, name)


def _variables(command: str, option: str, known: Options) -> list[str]:
    """The option's own variable, then the one it shares with other commands, if it does."""
    own = f"{PREFIX}{command}_{option}".upper().replace(" ", "_").replace("-", "_")
    return [own, f"{PREFIX}{option}".upper()] if _takes(command, option, known) else [own]


def _takes(command: str, option: str, known: Options) -> bool:
    return option in known[command] and option not in _OF_ONE_RUN and (command, option) not in _NOT_SHARED


def _bad(file: Path, what: str) -> RequestError:
    return RequestError(f"{file} {what}.", next_step="Mend it; or go without it: MEDK2N_CONFIG=none", code="BAD_CONFIG")

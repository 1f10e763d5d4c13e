"""The `gridmarl` command. Exit codes: 0 done, 1 a ledger that does not verify, 2 bad input, 130 interrupted
(and 141 where whoever reads the output goes away)."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from gridmarl.errors import ConfigError, GridmarlError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error a user can cause is one line on standard error."""
    try:
        command = _parse(arguments)
        return command if isinstance(command, int) else int(command.run())
    except GridmarlError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("gridmarl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read the output has seen enough; without this Python complains once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as a command ends that SIGPIPE stops; not 0, since a verdict may not have been read
    except OSError as error:
        return _refuse(error)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _refuse(f"out of memory; allowed are fewer lanes, prosumers or replay slots ({error})")


def _refuse(error: object) -> int:
    print(f"gridmarl: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)


def _parse(arguments: Sequence[str] | None) -> Any:
    """The command with its options, or the exit code where `--help` was all that was asked.

    Raises:
        ConfigError: options that do not parse.
    """
    from gridmarl.train.commands import Command

    given = list(sys.argv[1:] if arguments is None else arguments)
    command = _tyro(Command, given, None)
    path = getattr(command, "options", None)
    if path is None:
        return command
    from gridmarl.train.options_file import with_options_file

    return with_options_file(command, path, given[1:], _tyro)


def _tyro(kind: Any, arguments: list[str], default: Any) -> Any:
    """What the arguments make of a command type, or exit code 0 after `--help`; ConfigError if they do not parse."""
    import tyro  # here, since these imports take a second in which Ctrl-C must work too

    from gridmarl.train.commands import DESCRIPTION

    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                kind,
                prog="gridmarl",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                **({} if default is None else {"default": default}),
            )
    except SystemExit as stop:
        if not stop.code:
            return 0
        raise ConfigError(f"{_first_part(complaint.getvalue())}; see gridmarl --help") from None


def _first_part(boxed: str) -> str:
    """The sentence that says what is wrong, out of tyro's box: title, sentence, rule, advice.

    The title stands in the box's upper edge, or, where the terminal has no such characters, over a line of dashes.
    """
    words: list[str] = []
    lines = boxed.splitlines()
    for line in lines[1:] if boxed.startswith("╭") else lines[2:]:
        inner = line.strip("│ ")
        if not inner.strip("─-╰╯"):
            break
        words.append(inner)
    return " ".join(" ".join(words).split()).rstrip(".")

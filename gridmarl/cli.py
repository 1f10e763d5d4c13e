"""The `gridmarl` command. Exit codes: 0 done, 1 a ledger that does not verify, 2 bad input, 130 interrupted."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gridmarl.errors import GridmarlError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error a user can cause is one line on standard error."""
    import tyro

    from gridmarl.train.commands import DESCRIPTION, Command

    try:
        command = tyro.cli(
            Command,
            prog="gridmarl",
            description=DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
        return int(command.run())
    except GridmarlError as error:
        print(f"gridmarl: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gridmarl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def script() -> None:
    """Entry point of the console script."""
    raise SystemExit(main())

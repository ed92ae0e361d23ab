"""The command ``icatfs``: sub-commands, loaded when they are called."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import ClassVar

import click

from icatfs import __version__
from icatfs.cli import exits
from icatfs.errors import IcatfsError


class _Lazy(click.Group):
    """A group that imports the module of a sub-command when it is needed."""

    modules: ClassVar[dict[str, str]] = {
        "mount": "Mount a facility at a folder.",
        "unmount": "Unmount, after what was written has been sent.",
        "pending": "List files that the facility does not have yet; send them.",
        "status": "Show the mounts of this user and what they do.",
        "cache": "Show, empty or check what is kept of what you read.",
        "ls": "List a folder: what can be read at once, and what is on tape.",
        "find": "Print the datasets or files that are online, or on tape.",
        "du": "Sum up how much is online, and how much on tape.",
        "stage": "Ask for archived data in advance; wait for them.",
        "why": "Say what a path or a program waits for, and how long still.",
        "archive": "Take data off the facility's disk (--mode rw).",
        "complete": "Mark a dataset as complete: no more files are added.",
        "bench": "Measure how fast a facility of yours is through a mount.",
        "demo": "Show the whole job on a facility of its own.",
        "facility": "Run the embedded facility: ICAT, IDS and tape in one process.",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        command = importlib.import_module(f"icatfs.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"icatfs.cli.{cmd_name}.command is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.modules.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="icatfs")
def group() -> None:
    """An ICAT facility as ordinary files and folders.

    Start with: icatfs mount https://icat.example.org ~/facility
    """


def main() -> None:
    """Entry point: runs the command; an error of ours is one sentence and its own exit code."""
    logging.basicConfig(level=logging.WARNING, format="icatfs: %(message)s")
    try:
        code = group.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else exits.OK)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except IcatfsError as error:
        click.echo(f"icatfs: {error}", err=True)
        sys.exit(exits.exit_code(error))

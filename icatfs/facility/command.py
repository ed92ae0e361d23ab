"""The command line of the embedded facility, for demos, tests and trying things by hand."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="facility")
@click.option(
    "--holdings",
    type=click.Choice(["sample", "large", "hostile"]),
    default="sample",
    show_default=True,
    help="What it holds: a small example, large numbers, or inconvenient names and facts.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    metavar="N",
    help="For large: the number of files in its largest dataset.",
)
@click.option(
    "--storage",
    type=click.Choice(["single", "dataset", "datafile"]),
    default="dataset",
    show_default=True,
    help="No tape, or a tape that stores whole datasets or single files.",
)
@click.option(
    "--restore-delay",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="S",
    help="Seconds that a restore from tape takes.",
)
@click.option("--archived", is_flag=True, help="Start with everything on tape.")
@click.option(
    "--costs",
    type=click.Choice(["none", "real"]),
    default="none",
    show_default=True,
    help="Answer at once, or as slowly and narrowly as a real server.",
)
@click.option(
    "--session-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="M",
    help="How long a session lives that is not refreshed.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Keep catalogue and data there, and start from what is there.  [default: temporary]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="P",
    help="TCP port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Serve HTTPS: a PEM file with a certificate for 127.0.0.1 and its key.",
)
@click.option(
    "--until-eof",
    is_flag=True,
    help="End, too, when standard input ends: for a parent process that may be killed.",
)
def command(
    *,
    holdings: str,
    size: int,
    storage: str,
    restore_delay: float,
    archived: bool,
    costs: str,
    session_minutes: float,
    data: Path | None,
    port: int,
    certificate: Path | None,
    until_eof: bool,
) -> None:
    """Run an ICAT, an IDS and a tape in one process, over real HTTP, until SIGTERM.

    When it is ready it prints one line of JSON: its addresses, its facility and its users with
    their passwords. Its control side is below /_facility.
    """
    try:
        from icatfs.facility.app import CostModel, FacilityConfig, FacilityError, run
        from icatfs.facility.holdings import Holdings
        from icatfs.facility.storageunit import StorageUnit
    except ImportError as error:
        raise click.ClickException(
            f"the facility needs packages that are missing ({error.name}): "
            "install icatfs with the extra 'facility'"
        ) from error
    try:
        config = FacilityConfig(
            holdings=Holdings(holdings),
            size=size,
            storage=StorageUnit(storage),
            restore_delay_s=restore_delay,
            archived=archived,
            costs=CostModel(costs),
            session_minutes=session_minutes,
            data=data,
            port=port,
            certificate=certificate,
        )
        run(config, lambda ready: click.echo(ready.line()), until_eof=until_eof)
    except FacilityError as error:
        raise click.ClickException(str(error)) from error

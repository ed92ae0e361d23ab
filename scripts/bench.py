"""Measure a mount of the embedded facility beside its peers.

The peers are curl and a raw socket for the wire, the local disk for warm reads, rclone's mount of
the same bytes over HTTP, python-icat's client for small files. What is compared is run in turn;
quoted are medians, ranges and ratios of one run. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import many, reading, writing
from benchmarks.stage import Stage, emptied

from icatfs.cli.measure import Row, table
from icatfs.facility.certificates import self_signed
from icatfs.facility.handle import running_facility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: runs of each row, files of the large and of the small dataset."""

    runs: int
    listed: int
    listed_most: int
    small: int


FULL = Size(runs=5, listed=100_000, listed_most=1_000_000, small=10_000)
SMALL = Size(runs=2, listed=20_000, listed_most=100_000, small=1_000)


@contextmanager
def staged(
    *options: str, user: str = "simple/root", folder: Path | None, tls: bool = False
) -> Iterator[Stage]:
    """A facility with the large holdings and a place to mount it, which goes with the program."""
    place = Path(tempfile.mkdtemp(prefix="icatfs-bench-", dir=folder))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    authority = self_signed(place) if tls else None
    more = ["--certificate", str(authority)] if tls else []
    command = ["--holdings", "large", "--storage", "single", *options, *more]
    with running_facility(*command) as facility:
        yield Stage(facility, place, user=user, ca_file=authority)
    emptied(place)


def sections(size: Size, folder: Path | None) -> dict[str, Callable[[], list[Row]]]:
    """What can be measured, by name; what leaves many files to be deleted comes last."""

    def plain() -> list[Row]:
        with staged("--size", "1000", folder=folder) as stage:
            return reading.rows(stage, size.runs)

    def tls() -> list[Row]:
        with staged("--size", "1000", folder=folder, tls=True) as stage:
            return reading.sequential(stage, size.runs)

    def listing() -> list[Row]:
        with staged("--size", str(size.listed), folder=folder) as stage:
            return many.listing(stage, size.runs, size.listed)

    def million() -> list[Row]:
        with staged("--size", str(size.listed_most), folder=folder) as stage:
            return [
                *many.listing(stage, 1, size.listed_most),
                *many.memory(stage, size.listed_most),
            ]

    def small() -> list[Row]:
        options = ("--size", str(size.small), "--costs", "real")
        with staged(*options, user="db/jdoe", folder=folder) as stage:
            return many.small_files(stage, min(size.runs, 3), size.small)

    def uploads() -> list[Row]:
        with staged("--size", "1000", folder=folder) as stage:
            return writing.rows(stage, size.runs, size.small)

    def real() -> list[Row]:
        with staged("--size", "1000", "--costs", "real", folder=folder, tls=True) as stage:
            return [
                *reading.sequential(stage, size.runs),
                *writing.beside_a_real_one(stage, size.runs, size.small // 10),
            ]

    return {
        "reading": plain,
        "tls": tls,
        "real": real,
        "listing": listing,
        "million": million,
        "small": small,
        "writing": uploads,
    }


def main() -> None:
    """Run what was asked for and print a table; with ``--json``, write the figures too."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all of them")
    parser.add_argument("--small", action="store_true", help="fewer runs, smaller datasets")
    parser.add_argument("--runs", type=int, help="runs of each row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--folder", type=Path, help="where cache and staging are, for example /dev/shm  [/tmp]"
    )
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    if options.runs:
        size = Size(options.runs, size.listed, size.listed_most, size.small)
    known = sections(size, options.folder)
    unknown = [name for name in options.sections if name not in known]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are: {', '.join(known)}")
    rows: list[Row] = []
    for name in options.sections or known:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        new = known[name]()
        print(table(new), flush=True)
        rows += new
        if options.json:
            options.json.write_text(json.dumps([one.as_json() for one in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()

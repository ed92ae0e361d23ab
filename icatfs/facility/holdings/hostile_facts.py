"""The names, sizes, times and checksums that real catalogues hold and naive clients break on.

Each constant names what it is about; the numbers in comments are the rows of the table of naming
facts that the project collected from real facilities.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from icatfs.facility.holdings import crc
from icatfs.facility.holdings.entry import milliseconds

FACILITY = "HOSTILE"
SECOND_FACILITY = "@2nd/facility"
"""Its name begins with ``@`` and has a slash; it holds one small investigation."""

ODD_NAMES = (
    # 1, 5: punctuation that shells, URLs, queries and job schedulers treat specially
    "CAL_ALF_15/03/2019 11:49:44",
    "gate:191-00002-1.1-P",
    "15120039 Carley (2015)",
    "NiMnGa 991027",
    "N=120#7 & more; $HOME `id` | x > y",
    "O'Hara",
    "x' OR '1'='1",
    'say "when"',
    "back\\slash",
    "\\\\server\\share$\\name",
    "star * question ? [a-z] {b,c}",
    "-rf",
    "--help",
    "~root",
    "!important",
    # names that have a meaning in the tree, and the signs that escape them
    ".",
    "..",
    "...",
    ".hidden",
    "",
    "%",
    "%%",
    "50%",
    "a%b",
    "a/b",
    "a%2Fb",
    "a%2fb",
    "%2E",
    "%2E%2E",
    "x%~12",
    "%~",
    "@mine",
    "@",
    "/",
    "//",
    "/leading",
    "trailing/",
    "__pycache__",
    "lost+found",
    # control characters and blanks
    "new\nline",
    "tab\tstop",
    "carriage\rreturn",
    "bell\x07",
    "del\x7f",
    "nul\x00byte",
    " leading blank",
    "trailing blank ",
    "trailing dot.",
    " ",
    # 10: equal but for the case, accents or form
    "Case",
    "case",
    "CASE",
    "Dülmen",
    "Dulmen",
    unicodedata.normalize("NFC", "Universität"),
    unicodedata.normalize("NFD", "Universität"),
    # 24: what is not Latin
    "データ",
    "Данные",
    "بيانات",
    "right\u202eto left",
    "zero\u200bwidth",
    "no\u00a0break",
    "\ufeffmark",
    "beam\U0001f4a5time",
    # 6, 22
    "Phospholipidic bilayer at fluorocarbon oil - water interface_High energy X-ray reflectivity",
    "10.5286/ISIS.E.RB2200001-1",
    "cm40607-1",
    "id23eh1",
    "id23-1",
    "ENGIN-X",
    "ENGINX",
    "null",
    "NULL",
    "None",
    ":user",
    "{ts 2020-01-01 00:00:00}",
    "100% of 50%2F",
    "CON",
    "a:b",
    "a b",
    "a+b",
)
"""Names that an investigation, a visit, a dataset and a file each have once."""

LONG_NAMES = (
    "l" * 255,
    "l" * 254 + "m",
    "ä" * 255,
    "試" * 255,
    "\U0001f4a5" * 255,
    "e\u0301" * 127,
    "x" * 251 + "試験",
    "x" * 251 + "試駅",
)
"""255 characters may be 1020 bytes; some differ only beyond what fits in one component."""

PATH_NAMES = (
    # 2, 3: Datafile names that are paths, with leading slashes
    "/scan0001/sample_water0000.h5",
    "/gallery/x.png",
    "Tr-ToF/001 Static Time 2 Energy/N=120/7.000000.tsv",
    "/35602_args.json",
    # a name that is a file and a folder, and names that differ by slashes only
    "a",
    "a/b",
    "/a/b",
    "a//b",
    "a/b/",
    "a/b/c",
    "d/",
    "/",
    "//",
    "e///f//g",
    # steps that must not lead out of the dataset
    "./x",
    "../x",
    "a/./b",
    "a/../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    " ",
    "a/ /b",
    "A/B",
    "A/b",
    "a/50%",
    "a/%2F",
    "a/x%~12",
    "@mine/file",
    "deep/" * 50 + "file",
    "試" * 80 + "/" + "験" * 80,
    "l" * 127 + "/" + "l" * 127,
)
"""Datafile names of the dataset ``paths``, which the slashes make into folders."""


@dataclass(frozen=True, slots=True)
class OddFile:
    """A Datafile in which one thing is odd; what is not said is as it should be.

    ``data`` are the stored bytes, None when nothing is stored; "as stored" is a marker for facts
    that tell the truth about them.
    """

    name: str
    why: str
    data: bytes | None = b"ordinary bytes\n"
    size: int | str | None = "as stored"
    checksum: str | None = "as stored"
    modified: int | None = field(default_factory=lambda: milliseconds("2020-02-29T12:00:00Z"))
    created: int | None = field(default_factory=lambda: milliseconds("2020-02-28T12:00:00Z"))
    location: str | None = "as stored"
    description: str | None = None
    doi: str | None = None


def _bytes_with_small_crc() -> bytes:
    """Bytes whose CRC-32 begins with zeros, which ICAT's own checksums leave out."""
    data = bytearray(b"ordinary bytes\n    ")
    crc.force_crc32(data, 0xABC, crc.whole_bytes(len(data) - 4, 4))
    return bytes(data)


_SMALL_CRC = _bytes_with_small_crc()
_UNC = r"\\isis\inst$\NDXMERLIN\Instrument\data\cycle_20_2\MER50533_ICPdebug.txt"

ODD_FILES = (
    # 14
    OddFile("size-null.dat", "size not known", size=None),
    OddFile("size-null-empty.dat", "size not known, no bytes", data=b"", size=None),
    OddFile("size-zero.dat", "catalogued as empty, but it is not", size=0),
    OddFile("size-too-small.dat", "more bytes than catalogued", size=9),
    OddFile("size-too-large.dat", "fewer bytes than catalogued", size=20),
    OddFile("size-off-by-one.dat", "one byte more than catalogued", size=14),
    OddFile("empty.dat", "an empty file", data=b""),
    OddFile("empty-no-checksum.dat", "an empty file without checksum", data=b"", checksum=None),
    # 15
    OddFile("time-null.dat", "no modification time", modified=None),
    OddFile("times-null.dat", "no time at all", modified=None, created=None),
    OddFile("time-before-1970.dat", "negative", modified=milliseconds("1969-07-20T20:17:40Z")),
    OddFile("time-epoch.dat", "zero", modified=0),
    OddFile("time-future.dat", "far ahead", modified=milliseconds("2999-12-31T23:59:59Z")),
    OddFile("time-2038.dat", "past 32 bits", modified=milliseconds("2038-01-19T03:14:08Z")),
    # checksums
    OddFile("checksum-null.dat", "no checksum", checksum=None),
    OddFile(
        "checksum-md5.dat", "of another algorithm", checksum="d41d8cd98f00b204e9800998ecf8427e"
    ),
    OddFile("checksum-sha256.dat", "of another algorithm", checksum="e3b0c44298fc1c149afbf4c8" * 2),
    OddFile("checksum-named.dat", "with the algorithm's name", checksum="md5:0123456789abcdef"),
    OddFile("checksum-text.dat", "no number", checksum="to be done"),
    OddFile("checksum-empty.dat", "the empty text", checksum=""),
    OddFile("checksum-wrong.dat", "a CRC-32 of other bytes", checksum="deadbeef"),
    OddFile("checksum-short.dat", "leading zeros left out", data=_SMALL_CRC),
    OddFile("checksum-padded.dat", "leading zeros", data=_SMALL_CRC, checksum="padded"),
    OddFile("checksum-upper.dat", "upper case", checksum="upper"),
    # 11, 12, 13, 23
    OddFile("location-long.dat", "511 characters", location="/data/" + "d" * 505),
    OddFile("location-null.dat", "known to the catalogue only", data=None, location=None),
    OddFile("location-null-2.dat", "another of them", data=None, location=None, size=None),
    OddFile("location-unc.txt", "a Windows share", location=_UNC),
    OddFile("location-shared-1.dat", "one location of two", location="shared/place.dat"),
    OddFile("location-shared-2.dat", "one location of two", location="shared/place.dat"),
    OddFile("location-url.dat", "no path", location="https://data.example.org/x?y=z#frag"),
    OddFile("location-hashed.dat", "a digest after a blank", location="1/2/x 3f2a9c"),
    OddFile("location-up.dat", "leads out", location="../../../etc/passwd"),
    # 4
    OddFile("marked", "marks a folder", data=b"", description="FOLDER"),
    OddFile("marked/inside.dat", "a file in the marked folder"),
    OddFile("marked-empty", "marks a folder without files", data=b"", description="FOLDER"),
    # texts
    OddFile("doi.dat", "has a DOI", doi="10.5286/ISIS.E.RB2200001-1/file"),
    OddFile("description.dat", "is described at length", description="Ünïcödé\n" * 30),
)
"""The files of the dataset ``facts``: what the catalogue says about them is odd."""

REPEATED_NAME = "ID002020"
REPEATED_VISITS = ("id01", "id23-1", "id23eh1", "ID01", "2002/2")
"""7, 8: one proposal, several visits."""

LARGE_IDS = (2**31 - 1, 2**31, 2_008_212_345, 2_378_104_896, 2**32 + 5)
"""16: ids around and above 2^31, for an investigation, a dataset and a file each."""

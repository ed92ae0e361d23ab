"""What the process of a mount wants from the system, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

FAULTS = """
import resource
from icatfs import process

def faults_of_reading():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        buffers = [bytes([7]) * 2**20 for _ in range(4)]
        del buffers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

process.prepare()
print(faults_of_reading())
"""

DESCRIPTORS = """
import resource
from icatfs import process

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
process.prepare()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def said_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_buffers_of_reads_are_not_mapped_anew_for_each_read() -> None:
    """Of 100,000 pages in all a few thousand, those of the first time."""
    assert int(said_by(FAULTS)) < 10_000


def test_as_many_files_may_be_open_as_the_system_gives() -> None:
    assert said_by(DESCRIPTORS) == "True"

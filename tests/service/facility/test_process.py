"""The facility as a process: ready line, control side, end."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest

from icatfs.facility.certificates import self_signed
from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from pathlib import Path


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "icatfs.facility", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_ready_line_then_nothing_is_left_after_the_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{ready['icat']}/version") as answer:
            assert json.load(answer) == {"version": "6.2.1"}
        assert any(tmp_path.iterdir())
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
    assert ready["icat"] == f"{ready['url']}/icat"
    assert ready["ids"] == f"{ready['url']}/ids"
    assert ready["facility"] == "ESNF"
    assert ready["users"]["db/jdoe"] == "jdoepw"
    assert ready["users"]["simple/root"] == "rootpw"


def test_it_ends_with_its_parent_when_told_so(tmp_path: Path) -> None:
    with start(tmp_path, "--until-eof") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_sentence() -> None:
    with running_facility() as facility:
        port = facility.url.rpartition(":")[2]
        ended = subprocess.run(
            [sys.executable, "-m", "icatfs.facility", "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.strip() == f"Error: port {port} on 127.0.0.1 is taken: choose another one"


def test_kept_data_are_there_at_the_next_start(tmp_path: Path) -> None:
    query = "SELECT COUNT(df) FROM Datafile df"
    with running_facility(data=tmp_path) as facility:
        (before,) = facility.search(query)
        session = facility.login()
        (dataset,) = facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208946'")
        url = (
            f"{facility.ids}/put?sessionId={session}&name=kept&datasetId={dataset}"
            "&datafileFormatId=1"
        )
        request = urllib.request.Request(url, data=b"kept bytes", method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request) as answer:
            number = json.load(answer)["id"]
    with running_facility(data=tmp_path) as facility:
        assert facility.search(query) == [before + 1]
        assert facility.content(number) == b"kept bytes"


def test_data_of_other_holdings_are_refused(tmp_path: Path) -> None:
    with running_facility(data=tmp_path):
        pass
    ended = subprocess.run(
        [sys.executable, "-m", "icatfs.facility", "--holdings", "hostile", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "sample" in ended.stderr


def test_requests_are_counted_by_endpoint_and_the_count_begins_anew() -> None:
    with running_facility() as facility:
        facility.reset_counters()
        facility.search("SELECT COUNT(df) FROM Datafile df")
        counters = facility.counters()
        assert counters["logins"] == 1
        assert counters["queries"] == 1
        assert sum(counters["requests"].values()) == 2
        facility.reset_counters()
        assert facility.counters()["queries"] == 0


def test_every_name_that_a_datafile_was_given_is_told_afterwards() -> None:
    with running_facility("--storage", "single") as facility:
        (dataset,) = facility.search("SELECT ds.id FROM Dataset ds WHERE ds.name = 'e208947'")
        assert facility.names(dataset) == [], "holdings are not told"
        (number,) = facility.write([{"Datafile": {"dataset": {"id": dataset}, "name": "first"}}])
        facility.write([{"Datafile": {"id": number, "name": "second"}}])
        facility.write([{"Datafile": {"id": number, "description": "no name"}}])
        with pytest.raises(
            RuntimeError, match="OBJECT_ALREADY_EXISTS"
        ):  # both or none: nobody saw the first
            facility.write(
                [
                    {"Datafile": {"dataset": {"id": dataset}, "name": name}}
                    for name in ("third", "second")
                ]
            )
        assert facility.names(dataset) == ["first", "second"]


@pytest.mark.parametrize("unit", ["dataset", "datafile"])
def test_data_are_put_on_tape_and_back(unit: str) -> None:
    with running_facility("--storage", unit, "--archived") as facility:
        (number,) = facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'e208947.nxs'")
        url = f"{facility.ids}/getStatus?datafileIds={number}"

        def status() -> bytes:
            with urllib.request.urlopen(url) as answer:
                data: bytes = answer.read()
                return data

        assert status() == b"ARCHIVED"
        facility.restore(datafiles=[number])
        assert status() == b"ONLINE"
        facility.archive(datafiles=[number])
        assert status() == b"ARCHIVED"
        assert facility.counters()["restores"] == 0


def test_the_signal_cuts_streams_that_nobody_reads(tmp_path: Path) -> None:
    with start(tmp_path, "--holdings", "large", "--size", "10") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        handle = FacilityHandle.from_line(json.dumps(ready), process.pid)
        (number,) = handle.search("SELECT df.id FROM Datafile df WHERE df.name = 'huge-1.bin'")
        url = f"{handle.ids}/getData?sessionId={handle.login()}&datafileIds={number}"
        with urllib.request.urlopen(url) as stream:
            assert len(stream.read(1000)) == 1000
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_the_sub_command_of_icatfs_is_the_same() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "icatfs", "facility", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for option in ("--holdings", "--size", "--storage", "--restore-delay", "--archived"):
        assert option in ended.stdout
    for option in ("--costs", "--data", "--port"):
        assert option in ended.stdout


def test_data_are_archived_from_the_start_and_restored_after_the_delay() -> None:
    with running_facility("--archived", "--restore-delay", "3600") as facility:
        (number,) = facility.search("SELECT df.id FROM Datafile df WHERE df.name = 'e208947.nxs'")
        url = f"{facility.ids}/getStatus?datafileIds={number}"
        form = urllib.parse.urlencode({"sessionId": facility.login(), "datafileIds": number})
        with urllib.request.urlopen(f"{facility.ids}/restore", data=form.encode()):
            pass
        facility.advance(1800)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"RESTORING"
        facility.advance(1810)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"ONLINE"
        assert facility.counters()["restores"] == 1


@pytest.mark.parametrize(
    ("path", "body"), [("clock", b'{"advance": -1}'), ("clock", b"{}"), ("clock", b"[]")]
)
def test_the_control_side_refuses_nonsense_with_a_sentence(path: str, body: bytes) -> None:
    with running_facility() as facility:
        request = urllib.request.Request(f"{facility.url}/_facility/{path}", data=body)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert answer.code == 400
            assert answer.read()


def test_faults_are_switched_on_and_off_while_it_runs() -> None:
    with running_facility() as facility:
        facility.faults({"kind": "error", "endpoint": "icat/version", "status": 503, "body": "no"})
        with pytest.raises(urllib.error.HTTPError) as failed:
            urllib.request.urlopen(f"{facility.icat}/version")
        with failed.value as answer:
            assert answer.code == 503
        facility.clear_faults()
        with urllib.request.urlopen(f"{facility.icat}/version") as answer:
            assert answer.status == 200


def test_a_fault_that_does_not_exist_is_refused_with_a_sentence() -> None:
    with running_facility() as facility, pytest.raises(RuntimeError, match=r"400 .*toothache"):
        facility.faults({"kind": "toothache"})


def test_real_costs_make_a_named_file_dearer_than_nothing() -> None:
    query = "SELECT COUNT(df) FROM Datafile df"
    with running_facility("--costs", "real") as facility:
        begin = time.monotonic()
        facility.search(query, "db/nbour")
        assert time.monotonic() - begin > 0.3
        begin = time.monotonic()
        facility.search(query)
        assert time.monotonic() - begin < 0.3


def test_it_serves_https_with_a_certificate(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    with running_facility("--certificate", str(certificate)) as facility:
        assert facility.url.startswith("https://")
        assert facility.counters()["requests"] == {}
        with urllib.request.urlopen(f"{facility.icat}/version", context=trusting) as answer:
            assert json.load(answer) == {"version": "6.2.1"}

"""What goes wrong when mounting: one sentence, its own exit code, nothing left behind."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from icatfs.cli import exits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

    from icatfs.facility.testing import FacilityHandle

CODE = exits.table()


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers everything with one page."""

    status = 200

    def do_GET(self) -> None:
        """Answer."""
        body = b"<html><body>Welcome to nginx</body></html>"
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(status: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A web server that is no ICAT; yields its port."""
    handler = type("Page", (_Page,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def check_refused(done: subprocess.CompletedProcess[str], name: str, *words: str) -> None:
    """One sentence for the error of this name, with these words, and its exit code."""
    assert done.returncode == CODE[name], done.stderr
    assert done.stderr.startswith("icatfs: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def point(mounts: Mounts) -> Path:
    path = mounts.folder / "mnt"
    path.mkdir()
    return path


def login(mounts: Mounts) -> list[object]:
    password = mounts.folder / "password"
    password.touch(mode=0o600)
    password.write_text("x\n", encoding="utf-8")
    return ["--auth", "db", "--user", "x", "--password-file", password]


def test_nobody_listens(mounts: Mounts, point: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        done = mounts.run("mount", f"http://127.0.0.1:{port}", point, *login(mounts))
    check_refused(done, "FacilityUnreachable", "127.0.0.1")


def test_the_name_does_not_exist(mounts: Mounts, point: Path) -> None:
    done = mounts.run("mount", "https://icat.invalid", point, *login(mounts))
    check_refused(done, "FacilityUnreachable", "icat.invalid")


def test_a_black_hole_is_given_up_in_bounded_time(mounts: Mounts, point: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        port = deaf.getsockname()[1]
        done = mounts.run("mount", f"http://127.0.0.1:{port}", point, *login(mounts), timeout_s=100)
    assert done.returncode == CODE["FacilityTimeout"], done.stderr


@pytest.mark.parametrize("status", [200, 404])
def test_the_address_is_some_web_server(mounts: Mounts, point: Path, status: int) -> None:
    with web_server(status) as port:
        done = mounts.run("mount", f"http://127.0.0.1:{port}", point, *login(mounts))
    check_refused(done, "NotAFacility")


def test_the_certificate_is_self_signed(mounts: Mounts, point: Path) -> None:
    key, certificate = mounts.folder / "key.pem", mounts.folder / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    files = ["-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with web_server(200, context) as port:
        done = mounts.run("mount", f"https://127.0.0.1:{port}", point, *login(mounts))
        check_refused(done, "CertificateRejected", "--ca-file")
        insecure = mounts.run(
            "mount", f"https://127.0.0.1:{port}", point, "--insecure", *login(mounts)
        )
    assert insecure.returncode == CODE["NotAFacility"], insecure.stderr


def test_the_password_is_wrong(mounts: Mounts, sample: FacilityHandle, point: Path) -> None:
    arguments = mounts.arguments(sample, point)
    (mounts.folder / "password-db-nbour").write_text("wrong\n", encoding="utf-8")
    check_refused(mounts.run(*arguments), "LoginFailed")


def test_the_way_to_log_in_does_not_exist(
    mounts: Mounts, sample: FacilityHandle, point: Path
) -> None:
    done = mounts.run("mount", sample.url, point, "--auth", "ldap", "--user", "x")
    check_refused(done, "ConfigError", "ldap", "db", "anon")


def test_a_password_is_missing_and_nobody_can_be_asked(
    mounts: Mounts, sample: FacilityHandle, point: Path
) -> None:
    done = mounts.run("mount", sample.url, point, "--auth", "db", "--user", "nbour")
    check_refused(done, "ConfigError", "--password-file")


def test_the_data_service_is_elsewhere(mounts: Mounts, sample: FacilityHandle, point: Path) -> None:
    with web_server(404) as port:
        wrong = f"http://127.0.0.1:{port}/ids"
        done = mounts.run(*mounts.arguments(sample, point, "--ids", wrong))
    check_refused(done, "NotAFacility", "IDS")


def test_the_folder_of_the_facility_does_not_exist(
    mounts: Mounts, sample: FacilityHandle, point: Path
) -> None:
    arguments = mounts.arguments(sample, point)
    arguments[1] = f"{sample.url}:/ESNF/nothing"
    check_refused(mounts.run(*arguments), "NotFound", "nothing")


def test_the_mount_point_is_missing(mounts: Mounts, sample: FacilityHandle) -> None:
    done = mounts.run(*mounts.arguments(sample, mounts.folder / "none"))
    check_refused(done, "MountPointMissing", "mkdir -p")


def test_the_mount_point_is_a_file(mounts: Mounts, sample: FacilityHandle) -> None:
    path = mounts.folder / "file"
    path.touch()
    check_refused(mounts.run(*mounts.arguments(sample, path)), "MountPointMissing", "not a folder")


def test_the_mount_point_is_not_empty(mounts: Mounts, sample: FacilityHandle, point: Path) -> None:
    (point / "something").touch()
    check_refused(mounts.run(*mounts.arguments(sample, point)), "MountPointNotEmpty")
    assert (point / "something").exists()


def test_something_is_mounted_there(mounts: Mounts, sample: FacilityHandle) -> None:
    mounted = mounts.mount(sample)
    done = mounts.run(*mounts.arguments(sample, mounted))
    check_refused(done, "MountPointBusy", "icatfs unmount")
    assert os.listdir(mounted) == ["ESNF"]


def test_an_ordinary_user_may_not_mount_in_a_folder_of_another(
    mounts: Mounts, sample: FacilityHandle, point: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    os.chmod(mounts.folder, 0o755)
    script = (
        "import os, sys; from pathlib import Path; from icatfs.fuse import mountpoint\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: mountpoint.prepare(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = mounts.python(script, point)
    assert done.stdout.startswith(("MountPointDenied", "NoFuse")), done.stdout + done.stderr


def test_the_machine_has_no_fuse(mounts: Mounts, point: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from icatfs.cli import exits;"
        "from icatfs.errors import NoFuse; from icatfs.fuse import mountpoint\n"
        "try: mountpoint.prepare(Path(sys.argv[1]), device=Path('/dev/no-fuse'))\n"
        "except NoFuse as error: print(error); sys.exit(exits.exit_code(error))"
    )
    done = mounts.python(script, point)
    assert done.returncode == CODE["NoFuse"], done.stderr
    assert "modprobe fuse" in done.stdout


def test_after_a_refusal_nothing_is_left(
    mounts: Mounts, sample: FacilityHandle, point: Path
) -> None:
    arguments = mounts.arguments(sample, point)
    (mounts.folder / "password-db-nbour").write_text("wrong\n", encoding="utf-8")
    mounts.run(*arguments)
    assert not os.path.ismount(point)
    assert not list((mounts.folder / "run").rglob("*.sock"))


def test_unmounting_what_is_not_mounted(mounts: Mounts, point: Path) -> None:
    done = mounts.run("unmount", point)
    assert done.returncode == CODE["MountError"]
    assert "nothing is mounted" in done.stderr

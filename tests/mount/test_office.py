"""LibreOffice opens, changes and saves a document in a mount.

Where it can be had, with its bridge for Python: `scripts/test` installs both if apt-get can.
`test_saving` imitates it everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.counting import stored
from support.mounts import until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.mounts import Mounts

PYTHON = "/usr/bin/python3"
SAVES = """
import sys, time, uno
from com.sun.star.beans import PropertyValue

pipe, url, *texts = sys.argv[1:]
here = uno.getComponentContext()
resolver = here.ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
for _ in range(600):
    try:
        there = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
        break
    except Exception:
        time.sleep(0.1)
desktop = there.ServiceManager.createInstance("com.sun.star.frame.Desktop")
hidden = PropertyValue(Name="Hidden", Value=True)
document = desktop.loadComponentFromURL("private:factory/swriter", "_blank", 0, (hidden,))
document.Text.String = texts[0]
document.storeAsURL(url, ())
document.close(True)
for text in texts[1:]:
    document = desktop.loadComponentFromURL(url, "_blank", 0, (hidden,))
    document.Text.String = text
    document.store()
    document.close(True)
desktop.terminate()
"""


def has_office() -> bool:
    if shutil.which("soffice") is None or not Path(PYTHON).exists():
        return False
    return subprocess.run([PYTHON, "-c", "import uno"], capture_output=True).returncode == 0


@pytest.fixture(scope="module", params=["no", "yes"], ids=["", "write_back"])
def writable(module_mounts: Mounts, request: pytest.FixtureRequest) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", f"write_back={request.param}"])


@pytest.mark.skipif(not has_office(), reason="there is no LibreOffice on this machine")
def test_libreoffice_saves_a_document_again_and_again(writable: Writable, tmp_path: Path) -> None:
    path = writable.dataset / "report.odt"
    texts = ["begun", "a second paragraph", "the end"]
    pipe = f"icatfs-{tmp_path.name}-{id(writable)}"
    office = subprocess.Popen(
        [
            "soffice",
            "--headless",
            "--norestore",
            f"--accept=pipe,name={pipe};urp;",
            f"-env:UserInstallation=file://{tmp_path}/profile",
        ]
    )
    try:
        command = [PYTHON, "-c", SAVES, pipe, path.as_uri(), *texts]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        office.wait(60)
    finally:
        office.kill()
        office.wait()
    until(lambda: stored(writable.facility, writable.dataset.name).keys() == {"report.odt"})
    content = stored(writable.facility, writable.dataset.name)["report.odt"]
    with zipfile.ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        text = archive.read("content.xml").decode()
    assert "the end" in text
    assert "second paragraph" not in text
    assert path.read_bytes() == content
    query = f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{writable.dataset.name}'"
    (dataset,) = writable.facility.search(query)
    given = {name for name in writable.facility.names(dataset) if not name.startswith(".icatfs-")}
    assert given == {"report.odt"}, "no temporary name ever gets there"

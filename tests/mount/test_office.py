"""LibreOffice opens, changes and saves a document in a mount.

Where it can be had: `scripts/test` installs it if apt-get can.
`test_saving` imitates it everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from support.counting import stored
from support.mounts import until
from support.writable import Writable, writable_on

from icatfs.facility.testing import running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.mounts import Mounts

# In LibreOffice's own Basic, in its own process: its bridge for Python crashes now and then.
SAVES = """<?xml version="1.0" encoding="UTF-8"?>
<script:module xmlns:script="http://openoffice.org/2000/script"
  script:name="Module1" script:language="StarBasic">
Sub Main(url, log, begun, later, latest)
  On Error GoTo failed
  Open log For Output As #1
  Dim hidden(0) As New com.sun.star.beans.PropertyValue
  hidden(0).Name = "Hidden"
  hidden(0).Value = True
  document = StarDesktop.loadComponentFromURL("private:factory/swriter", "_blank", 0, hidden())
  document.Text.String = begun
  document.storeAsURL(url, Array())
  document.close(True)
  For Each text In Array(later, latest)
    document = StarDesktop.loadComponentFromURL(url, "_blank", 0, hidden())
    document.Text.String = text
    document.store()
    document.close(True)
  Next
  Print #1, "saved"
  GoTo done
failed:
  Print #1, Error
done:
  Close #1
  StarDesktop.terminate()
End Sub
</script:module>
"""


def office(profile: Path, argument: str) -> None:
    command = ["soffice", "--headless", "--norestore", f"-env:UserInstallation={profile.as_uri()}"]
    subprocess.run([*command, argument], check=True, timeout=120)


@pytest.fixture(scope="module", params=["no", "yes"], ids=["", "write_back"])
def writable(module_mounts: Mounts, request: pytest.FixtureRequest) -> Iterator[Writable]:
    with running_facility("--storage", "single") as facility:
        yield from writable_on(module_mounts, facility, ["-o", f"write_back={request.param}"])


@pytest.mark.skipif(not shutil.which("soffice"), reason="there is no LibreOffice on this machine")
def test_libreoffice_saves_a_document_again_and_again(writable: Writable, tmp_path: Path) -> None:
    path = writable.dataset / "report.odt"
    profile, log = tmp_path / "profile", tmp_path / "log"
    office(profile, "--terminate_after_init")
    (profile / "user/basic/Standard/Module1.xba").write_text(SAVES)
    arguments = [path.as_uri(), str(log), "begun", "a second paragraph", "the end"]
    quoted = ",".join(f'"{argument}"' for argument in arguments)
    office(profile, f"macro:///Standard.Module1.Main({quoted})")
    assert log.read_text() == "saved\n"
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

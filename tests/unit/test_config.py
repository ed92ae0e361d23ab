"""Settings: where they come from, which one wins, what is refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from icatfs import config as cfg
from icatfs.cli.settings import Flags, resolve, split_options
from icatfs.errors import ConfigError, MountPointMissing
from icatfs.values import WriteMode

if TYPE_CHECKING:
    from pathlib import Path

SECTION = """
[DEFAULT]
auth = db

[esnf]
url = https://icat.example.org:8181
idsurl = https://data.example.org/ids
username = nbour
password = 100%secret
checkCert = No
icatfs_cache_size = 5G
icatfs_mode = rw
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ICAT_CFG", "ICAT_CFG_SECTION", "ICAT_SERVICE", "ICAT_AUTH", "ICAT_USER"):
        monkeypatch.delenv(name, raising=False)
    for name in cfg.SETTINGS:
        monkeypatch.delenv(f"ICATFS_{name.upper()}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def icat_cfg(tmp_path: Path) -> Path:
    path = tmp_path / "icat.cfg"
    path.write_text(SECTION, encoding="utf-8")
    path.chmod(0o600)
    return path


def flags(tmp_path: Path, **more: object) -> Flags:
    point = tmp_path / "mnt"
    point.mkdir(exist_ok=True)
    return Flags(**{"source": "", "mountpoint": point, **more})  # type: ignore[arg-type]


def test_a_section_gives_urls_credentials_and_our_own_settings(
    tmp_path: Path, icat_cfg: Path
) -> None:
    config = resolve(flags(tmp_path, section="esnf"))
    assert (config.url, config.ids_url) == (
        "https://icat.example.org:8181",
        "https://data.example.org/ids",
    )
    assert (config.auth, config.user, config.password) == ("db", "nbour", "100%secret")
    assert config.insecure
    assert config.cache_size == 5 * 2**30
    assert config.mode is WriteMode.READ_WRITE


def test_without_a_section_nothing_is_read_from_the_files(tmp_path: Path, icat_cfg: Path) -> None:
    config = resolve(flags(tmp_path, source="https://other.example.org"))
    assert (config.auth, config.user, config.password, config.insecure) == (None, None, None, False)


def test_environment_beats_the_section_and_flags_beat_both(
    tmp_path: Path, icat_cfg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICATFS_MODE", "ro")
    monkeypatch.setenv("ICAT_USER", "ahau")
    assert resolve(flags(tmp_path, section="esnf")).mode is WriteMode.READ_ONLY
    assert resolve(flags(tmp_path, section="esnf")).user == "ahau"
    chosen = resolve(flags(tmp_path, section="esnf", user="jdoe", settings={"mode": "add"}))
    assert (chosen.mode, chosen.user) == (WriteMode.ADD, "jdoe")


def test_another_user_on_the_command_line_does_not_get_the_password_of_the_file(
    tmp_path: Path, icat_cfg: Path
) -> None:
    assert resolve(flags(tmp_path, section="esnf", user="jdoe")).password is None


def test_a_password_is_in_no_repr(tmp_path: Path, icat_cfg: Path) -> None:
    assert "secret" not in repr(resolve(flags(tmp_path, section="esnf")))


def test_the_password_file_of_systemd_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "icat-password").write_text("from systemd\n", encoding="utf-8")
    (tmp_path / "icat-password").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert resolve(flags(tmp_path, source="https://h")).password == "from systemd"


def test_a_password_that_others_may_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "password"
    path.write_text("p\n", encoding="utf-8")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert cfg.read_password_file(path) == "p"
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("icatfs_chace_size = 5G", "did you mean icatfs_cache_size"),
        ("icatfs_cache_size = lots", "not a size"),
        ("icatfs_mode = rwx", "ro, add or rw"),
        ("icatfs_recall_wait = soon", "not a number of seconds"),
        ("icatfs_max_requests = 1", "from 2 on"),
        ("checkCert = perhaps", "write yes or no"),
    ],
)
def test_what_is_wrong_in_a_section_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "icat.cfg").write_text(f"[s]\nurl = https://h\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        resolve(flags(tmp_path, section="s"))


def test_a_missing_section_and_a_missing_file_are_errors(tmp_path: Path, icat_cfg: Path) -> None:
    with pytest.raises(ConfigError, match=r"no section \[nowhere\]"):
        resolve(flags(tmp_path, section="nowhere"))
    with pytest.raises(ConfigError, match="cannot read"):
        resolve(flags(tmp_path, config=str(tmp_path / "none.cfg"), section="esnf"))


def test_no_url_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no facility given"):
        resolve(flags(tmp_path))


def test_a_missing_parent_of_the_mount_point_is_named(tmp_path: Path) -> None:
    with pytest.raises(MountPointMissing, match="mkdir -p"):
        resolve(Flags(source="https://h", mountpoint=tmp_path / "a" / "b"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("20G", 20 * 2**30), ("512 MiB", 2**29), ("1000", 1000), ("1.5k", 1536), ("2TB", 2**41)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert cfg.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "1X", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        cfg.parse_size(text)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("https://h", ("https://h", "/")),
        ("https://h:8181/icat", ("https://h:8181/icat", "/")),
        ("https://h:/ESNF/a", ("https://h", "/ESNF/a")),
        ("https://h:8181:/ESNF/", ("https://h:8181", "/ESNF")),
        ("https://h/icat:/", ("https://h/icat", "/")),
        ("h.example.org", ("h.example.org", "/")),
    ],
)
def test_a_source_is_a_url_and_a_path(source: str, parts: tuple[str, str]) -> None:
    assert cfg.split_source(source) == parts


def test_mount_options_are_sorted_into_fuse_and_ours() -> None:
    fuse, ours = split_options(("allow_other,_netdev", "cache-size=1G,x-systemd.automount,ro"))
    assert fuse == {"allow_other"}
    assert ours == {"cache_size": "1G", "mode": "ro"}
    with pytest.raises(ConfigError, match="unknown mount option 'fast'"):
        split_options(("fast",))


def test_the_recall_policy_is_checked_when_it_is_read(tmp_path: Path) -> None:
    config = resolve(
        flags(
            tmp_path,
            source="https://icat.example.org",
            options=("recall=/A never;wait:2h,recall_unit_size=none,recall_process_units=7",),
        )
    )
    assert config.recall == "/A never;wait:2h"
    assert (config.recall_process_units, config.recall_mount_units) == (7, 5000)
    assert config.recall_unit_size is None


def test_a_table_of_the_recall_policy_may_have_many_lines(tmp_path: Path, icat_cfg: Path) -> None:
    table = "icatfs_recall =\n    /A/*/raw*  never\n    *          wait:2h\n"
    icat_cfg.write_text(SECTION + table, encoding="utf-8")
    recall = resolve(flags(tmp_path, section="esnf")).recall
    assert recall.split() == ["/A/*/raw*", "never", "*", "wait:2h"]


@pytest.mark.parametrize(
    "option",
    ["recall=sometimes", "recall_mount_units=many", "recall_unit_size=big", "max_background=x"],
)
def test_an_unusable_recall_policy_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError):
        resolve(flags(tmp_path, source="https://icat.example.org", options=(option,)))


def test_the_kernel_keeps_what_is_written_only_if_it_is_told_to(tmp_path: Path) -> None:
    url = "https://icat.example.org"
    assert not resolve(flags(tmp_path, source=url)).write_back
    assert resolve(flags(tmp_path, source=url, options=("write_back=yes",))).write_back
    with pytest.raises(ConfigError, match="write_back"):
        resolve(flags(tmp_path, source=url, options=("write_back=perhaps",)))

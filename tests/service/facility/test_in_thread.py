"""The facility as a part of this process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from icatfs.facility.app import FacilityConfig, facility_in_thread


def test_a_thread_serves_a_facility_whose_parts_can_be_looked_at() -> None:
    with facility_in_thread(FacilityConfig()) as served:
        with urllib.request.urlopen(f"{served.ready.url}/icat/version") as answer:
            assert json.load(answer) == {"version": "6.2.1"}
        assert served.facility.counters.requests == {"icat/version": 1}
        assert served.ready.facility == "ESNF"


def test_elsewhere_is_a_page_of_html() -> None:
    with facility_in_thread(FacilityConfig()) as served:
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{served.ready.url}/topcat")
        with missing.value as answer:
            assert answer.code == 404
            assert answer.headers["content-type"].startswith("text/html")

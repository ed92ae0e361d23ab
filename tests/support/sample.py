"""Paths in the sample holdings."""

VISIT = "ESNF/12100409-ST/1.1-P"
DATASET = f"{VISIT}/e208945"
FILES = ("e208341.nxs", "e208945-2.nxs", "e208945.dat", "e208945.nxs")
"""Of this dataset."""

"""A facility in one process: ICAT, IDS and tape, for trying things out and for tests."""

"""The data service: bytes in and out, and where they are."""

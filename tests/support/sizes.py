"""Sizes in bytes."""

KIB, MIB, GIB = 2**10, 2**20, 2**30
PLENTY = 2**40
"""More than any test has."""

"""Archived data brought back: one restore for each storage unit, whoever waits for it."""

"""icatfs: an ICAT facility as ordinary files and folders."""

__version__ = "0.1.0"

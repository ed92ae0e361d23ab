"""``python -m icatfs``: the same as the command ``icatfs``."""

from icatfs.cli import main

main()

"""A process beside the mount that brings large bodies from the facility into open files.

`worker` is the program and imports no trio; `wire` is what both sides say; `mover` is our side.
"""

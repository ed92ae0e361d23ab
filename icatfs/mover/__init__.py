"""A process beside the mount that moves large bodies between the facility and open files.

`worker` is the program and imports no trio; `wire` is what both sides say; `mover` is our side.
"""

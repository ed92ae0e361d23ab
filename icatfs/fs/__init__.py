"""File-system semantics: inodes, handles, attributes, reading and writing; no FUSE in sight."""

"""icatfs: an ICAT facility as ordinary files and folders.

What the user sees::

    /<FACILITY>/<investigation>/<visit>/<dataset>/<datafile path ...>

How it is built. Imports go downwards only (``tests/test_architecture.py``)::

    cli                                 sub-commands and exit codes; the only place that prints
    daemon                              builds every service, opens and closes them in order
    commands      tuning                what the command line asks of a mount; what settings mean
    fuse        control                 the kernel's side, the only importer of pyfuse3; commands
    fs                                  what each file operation means; no FUSE in sight
    catalogue content recall staging    names | bytes on the local disk | tape | files going out
    icat        ids                     the two protocols: facts, bytes
    transport                           HTTP, limits, retries; the only importer of httpx
    mover                               a process beside the mount that moves the bytes of files
    config      sharing      hosts      settings; many callers, one action; one host, one folder
    values      errors                  the nouns; every exception

    facility                            an ICAT, an IDS and a tape in one process, for demo and
                                        tests; imports nothing of the above but ``values``

The four in the middle are siblings and never import each other. They meet in ``fs``, because
"offline? wait, then try again" is a policy about file operations, not about caches.

Who owns what: the session is `icat.session.SessionKeeper`'s; listings are `catalogue.tree`'s and
live for a time by kind of folder, large ones also on the disk (`catalogue.kept`); cached bytes are
`content.store`'s, one sparse file for each version of a file's content, kept between mounts; open
streams are `content.transfer`'s; who waits for which tape, `recall.coordinator`'s; files on their
way out, `staging.journal`'s, on disk before anybody is told; inode numbers and lookup counts,
`fs.inodes`'s alone.

A read goes ``fuse.operations`` > ``fs.reading``: what the store has is read from there; what it
lacks is brought by a forward stream of the data service, written into the cache file, and read
from there. The bytes themselves are moved by a process of their own (``mover.worker``): it receives
the open data file and says which bytes are in it, while every decision stays here. What is archived
is asked for once, and waited for. A write goes to a staged file, and from a large one to the
facility, by the same process, while the next are made (with ``write_back`` the kernel gathers
writes before that, `fs.numbering`); the writer's last close seals it, sends the
rest, compares size and CRC-32, and only then returns.
What replaces a stored file is sent under a hidden name, and both names change in one transaction.
"""

__version__ = "0.1.0"

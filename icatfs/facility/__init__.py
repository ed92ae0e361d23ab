"""An ICAT facility in one process: catalogue, data service and tape, over real HTTP.

It is what ``icatfs demo`` mounts and what the tests run against. It was written from recordings of
real servers (icat.server 6.2.1, ids.server 2.1.1), which are replayed against it as tests, and it
shares nothing with the client but ``icatfs.values``, so that the two cannot share a mistake.

=================  =============================================================================
``schema, model``  the entities of ICAT as data, and their SQLite tables
``database``       all rows; how text compares (``folding``)
``jpql``           the query language: tokens, tree, SQL, answers
``rules``          who may see and do what
``core``           the operations of ICAT as a Python API; ``icat`` is their REST face
``storage``        stored bytes: files, or content by formula
``archive``        tape: storage units, queue, restores, locks; ``ids`` is the REST face of the data
                   service, ``zipping`` its zip files
``clock``          time that tests can push ahead
``faults, costs``  misbehaviour and slowness, switchable while it runs
``counters``       what was asked of it
``chronicle``      what names datafiles were given
``holdings``       what it holds: ``sample``, ``large``, ``hostile``
``control``        the side for tests and demos, below ``/_facility``
``app``            all of it together, as one ASGI application; ``serving`` runs it
``command``        the command line
``testing``        fixtures, and a handle on a facility in its own process
=================  =============================================================================
"""

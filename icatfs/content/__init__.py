"""Bytes on the local disk: what is kept of what was read, and how the rest is brought.

Others use three things: `store.open_store` (what is here), `transfer.open_transfer` (bring what is
missing of one file), `bulk.open_bulk` (bring many small files at once); and `upkeep`, which looks
at cache folders from outside. How a read goes: a `cachefile.CacheFile` says what of a range is
missing; nothing: it is read from the data file. Else the transfer brings it, and it is read then.

Where to look for what::

    what is pure
        extents      ranges of bytes
        chunks       the CRC-32 of a content that arrives in any order
        plan         which stream brings what, and which makes room for another
        courses      where a stream begins, and how far it goes on
        costs        what streams cost, learnt from those that were opened
        ages         which chunks go first, of a content that does not fit
        foresight    which small files will be wanted next
        members      whose bytes a member of a zip is

    one content (who has it open: cachefile > cached)
        cachefile    one opener's view, pinned until closed
        cached       what is here of one version: proof, checks, what to do without room
        datafile     one file on the disk, and its locks
        held         bytes that the disk did not take
        checking     which chunks are still to be compared since they were kept
        house        what a cached content asks of the store; grants to write into its data file

    all contents of one folder (store > the others)
        store        who has what open, what is kept; the essay on the whole
        proof        what is still to be compared with the catalogue's CRC-32
        pages        whether the kernel may keep what was read of a content
        shown        what may have been read, and be in the kernel's pages
        room         what may go to the disk: the budget of all, the free space
        eviction     removing what was used least recently; disk, what is asked of the system
        recorder     syncs, then records, some seconds after a change
        record       what the index says of one data file
        index        the records of a folder; books, what is done in one transaction; database,
                     the SQLite file

    several processes in one folder, one after the other or at once
        ownership    shares of a folder, and who is dead
        entering     how a process comes in, and what may be in the way
        sweep        what the dead left
        upkeep       how much is kept, empty it, compare it: for ``icatfs cache``

    bringing bytes
        transfer     readers wait, streams bring: the tasks
        dispatch     the state of that: who waits, what runs, what was learnt; flows, its parts
        stream       one stream into one content, resumed and checked
        landing      the orders to a worker process that writes a stream into the data file
        bulk         many small files as one zip; incoming, one that is under way

What holds, whatever happens:

* **Versions never mix.** A data file has the bytes of one `values.ContentVersion`; the last piece
  of a content is shown when the whole was compared with the catalogue's CRC-32.
* **A record claims too little or the truth.** Bytes are synced before they are recorded, a data
  file's name is used once, a chunk is compared with its CRC-32 when it is first read after a mount.
* **A data file that is not complete has one writer**, who holds its exclusive lock and whose mark
  is in its name. A complete one never changes, and goes by being unlinked.
* **The budget holds at every write.** Records and leases together are never less than what is on
  the disk, and never more than the budget; nothing is written that would leave too little free.
* **What somebody has open is not evicted**, whichever process that is.
* **No trouble with the local disk is an error for a reader.** The cache is smaller then.
* **Nobody waits for the disk.** The event loop reads and writes what is in the page cache, and
  makes short transactions; syncs, checks of whole files, scans and what a large file leaves behind
  are for threads.

Who may change what: the event loop alone changes the objects of this package; threads touch
descriptors, immutable records and the index, and tell the event loop what they did.
"""

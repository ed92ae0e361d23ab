"""The tree: what a facility's catalogue looks like as folders and files.

``naming``, ``node``, ``layout`` and ``listing``, and for datafiles ``encoding``, ``columns``,
``pathindex`` and ``dataset``, are pure; ``tree`` asks the server and remembers, ``kept`` remembers
on the disk.
"""

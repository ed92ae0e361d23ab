"""The tree: what a facility's catalogue looks like as folders and files.

``naming``, ``node``, ``layout`` and ``listing`` are pure; ``tree`` asks the server and remembers.
"""

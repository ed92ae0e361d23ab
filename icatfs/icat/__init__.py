"""The catalogue service: facts about investigations, datasets and datafiles, from ICAT."""

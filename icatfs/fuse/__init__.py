"""The kernel's side of a mount: the only package that imports pyfuse3."""

"""Bytes on the local disk: what is there (`store`), and how the rest is brought (`transfer`)."""

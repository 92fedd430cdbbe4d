"""Keeping ``compat.yaml`` true: what upstream publishes, read and compared with it."""

"""From resolutions to ``matrix/lock.yaml``, and what is done with it: export, watch."""

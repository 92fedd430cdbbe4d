"""How long the targets run under pytest: the same examples each time, and no limit for one of them (it loads torch)."""

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=200)
settings.load_profile("ci")

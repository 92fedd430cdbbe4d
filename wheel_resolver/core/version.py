"""The version of the rules: a lock that was decided by others is stale.

It moves when an answer can move: ``tests/golden/test_rules_version.py`` judges every wheel for every cell, and fails
where the verdicts are others and the number is the same.
"""

RULES_VERSION = 3

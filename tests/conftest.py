"""What every test gets: the servers' fixtures and Hypothesis' profile."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Contracts are tests that live in the package; their assertions explain themselves too. Here,
# because whichever tests are collected first may import it.
pytest.register_assert_rewrite("taskiq_flow.testing")

pytest_plugins = ["tests.support.fixtures", "tests.support.leftover_check"]

# No deadline: two cores shared with servers and worker processes make single examples slow.
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# The same examples in every CI run: a red build is about the change that it builds.
settings.register_profile(
    "ci", settings.get_profile("default"), derandomize=True, print_blob=True, database=None
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

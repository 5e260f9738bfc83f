"""Contracts are tests that live in the package; their assertions explain themselves too."""

import pytest

pytest.register_assert_rewrite("taskiq_flow.testing")

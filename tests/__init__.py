"""The tests. What they share and is no test module gets pytest's explanations of a failed assert too."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.contract.suite")

"""farm with Gearman's stock programs, in every combination, and farm's promises through both servers."""

import pytest

pytest.register_assert_rewrite("tests.interop.ends", "tests.interop.jobs")

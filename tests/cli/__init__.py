"""The command line, as people use it: real processes through bin/farm, in pipes, files and terminals."""

import pytest

pytest.register_assert_rewrite("tests.cli.rig", "tests.cli.fakes")

"""The tests; a package, so that what they share has a full name (`tests.support`)."""

import pytest

pytest.register_assert_rewrite("tests.support")

"""Helpers of the tests of reading and writing."""

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.read import read_table
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzzing = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
# All of Unicode but NUL; separators and line breaks are frequent.
any_text = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from("\r\n\t\",; '\x0b\x0c\x1c\x85\u2028\ufeff|🙂"),
    max_size=20,
)


def write(folder, name, content):
    """Writes a file and returns its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_error(call, *parts):
    """Asserts that a call raises HeadwayError with one line that contains every part; returns the line."""
    with pytest.raises(HeadwayError) as caught:
        call()
    text = str(caught.value)
    for part in parts:
        assert str(part) in text
    assert "\n" not in text
    return text


def reading(path, **options):
    """A function that reads a file."""
    return lambda: read_table(path, **options)

"""The error that users can cause."""


class HeadwayError(Exception):
    """An error that the user can fix; its message says what is wrong, where, and what to do."""

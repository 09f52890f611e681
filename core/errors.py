"""The one kind of error a person can cause."""


class HeadwayError(Exception):
    """Something the person can mend: the message says what is wrong, where, and what to do about it."""

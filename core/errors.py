"""The errors that users can cause."""

import pickle

UNPICKLABLE = (
    pickle.PicklingError,
    AttributeError,
    TypeError,
    RecursionError,
)  # a lock, a function, deep nesting, ...


class HeadwayError(Exception):
    """An error that the user can fix; its message says what is wrong, where, and what to do."""


class ArgumentError(HeadwayError, TypeError):
    """A Python function was called with an argument that it does not have."""


class SharedError(HeadwayError):
    """An error that all processes of a launch have; the main process reports it."""

"""A queue of training runs, each in a separate process."""

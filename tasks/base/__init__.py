"""The Task contract and everything done once for all tasks."""

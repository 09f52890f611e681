"""Top floor: how people meet it."""

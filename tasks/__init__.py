"""First floor: what is plugged onto a model."""

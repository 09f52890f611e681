"""Training runs in processes of their own, one after another."""

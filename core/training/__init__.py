"""The training loop, its options, events, state and devices."""

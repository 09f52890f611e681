"""Published checkpoints: find, read, convert and write them."""

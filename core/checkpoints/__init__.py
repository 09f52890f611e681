"""Published checkpoints: finding, reading, converting and writing them."""

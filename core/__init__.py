"""Ground floor: models, weights, packed batches, generation and the training loop. Knows no task by name."""

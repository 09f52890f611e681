"""The ground floor: models, tokenizers, checkpoints, training, generation and inference. It knows no task."""

"""Ground floor: models, weights, packed batches, generation and the training loop. Knows no task by name."""

import os

# Weights in pages of 2 MB instead of 4 KB, where Linux lets programs choose: continuing a prompt reads all of them for
# every token. torch looks when it first takes memory for something large.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

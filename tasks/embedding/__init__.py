"""Sentence and word vectors: pooling, training on pairs, search."""

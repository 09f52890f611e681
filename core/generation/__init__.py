"""Text generation: decoding, sampling and beam search."""

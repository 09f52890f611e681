"""Tokenizers: reading published ones, learning new ones, decoding as tokens arrive."""

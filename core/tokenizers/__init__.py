"""Tokenizers: loading published ones, learning new ones, incremental decoding."""

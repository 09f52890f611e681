"""Masked and causal language modeling: training, filling masks, writing text."""

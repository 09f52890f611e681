"""Text classification and regression, for single texts and pairs of texts."""

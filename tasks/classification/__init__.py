"""Text classification and regression, single texts and pairs: everything of it."""

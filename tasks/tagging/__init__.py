"""Token classification and named entities: everything of it."""

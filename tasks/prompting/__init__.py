"""Few-shot prompting: a language model that is not trained chooses labels or generates answers."""

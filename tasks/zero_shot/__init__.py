"""Zero-shot classification: labels that the user names, answered by a classifier of pairs that knows entailment."""

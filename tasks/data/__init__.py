"""From people's files to features: reading, columns, labels, examples, windows. Knows no task."""

"""From files to features: reading, columns, labels, examples, windows. Independent of tasks."""

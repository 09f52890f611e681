"""Changes cells of a file and leaves everything else unchanged."""

"""Changes cells of a file and leaves everything else in it as it is."""

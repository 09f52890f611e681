"""The tabs of the browser app, one a file."""

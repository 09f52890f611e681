"""What people's files look like: from bytes to rows, format by format."""

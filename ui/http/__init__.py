"""`headway serve` and the HTTP API."""

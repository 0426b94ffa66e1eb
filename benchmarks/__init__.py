"""What the service costs on big tables, measured with its own statements. Nothing here runs in production."""

"""HTTP to the provider: one connection pool per process, deadlines and limits."""

"""Start-up, and what is asked of everything around before trusting it: dependencies, schema, rows."""

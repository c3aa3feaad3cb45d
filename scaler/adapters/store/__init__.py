"""What survives a restart: decisions, learned state, observed starts. SQLite by default, PostgreSQL by URL."""

"""PostgreSQL: the engine and its pool, how statements run and fail, their time-outs, and migrations."""

"""FastAPI with SQLModel."""

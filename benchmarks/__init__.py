"""Benchmarks of the service: the statements of its lists, its memory, its servers, and other services beside it."""

"""The tracer thread and what runs on it."""

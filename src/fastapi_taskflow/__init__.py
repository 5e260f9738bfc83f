"""Background tasks for FastAPI: a face on the durable engine of `taskiq_flow`."""

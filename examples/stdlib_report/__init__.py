"""Measures the Python standard library: a job that is killed, started again, and goes on."""

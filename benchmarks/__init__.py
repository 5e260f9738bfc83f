"""Times pipelines against plain Taskiq on the same broker: ``python -m benchmarks``."""

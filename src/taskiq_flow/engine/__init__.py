"""How a run advances."""

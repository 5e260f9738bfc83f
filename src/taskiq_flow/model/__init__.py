"""The model of a run: what is stored, and the rules by which it changes."""

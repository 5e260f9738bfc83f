"""The contract of a run store, one part a module."""

"""What all parts that keep something in a database have in common."""

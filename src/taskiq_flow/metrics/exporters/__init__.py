"""What hands the numbers on, each by the name of the system that it is for."""

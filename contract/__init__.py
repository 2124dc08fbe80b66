"""What every room may know: the leaf of the house. Standard library and NumPy only."""

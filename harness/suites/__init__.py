"""What is asked for: suites, grids, published figures."""

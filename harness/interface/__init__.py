"""What a plugin is written against: the values and base classes of every noun. Imports ``support`` alone."""

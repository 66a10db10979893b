"""What is known of a run, and where it is kept."""

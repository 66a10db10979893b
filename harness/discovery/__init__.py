"""What is installed, and where its code is."""

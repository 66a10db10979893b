"""What knows nothing of models, data or runs: files, text, downloads. Imports nothing else of the harness."""

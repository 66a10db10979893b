"""What is registered through the same hooks as anyone's: datasets, metrics, boards, figures, executors."""

"""What is registered through the same hooks as anyone's.

Datasets, metrics, feature networks, boards, figures, executors. In come the arguments that a hook promises; out go the
nouns that it asks for. Imported here are public names of ``harness`` alone, as in any plugin.
"""

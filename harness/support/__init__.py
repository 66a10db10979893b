"""What knows nothing of models, runs and boards: files, text, numbers, devices, limits, randomness, the environment.

Values in, values out; nothing of ``harness`` outside this room is imported here. torch is imported by the modules whose
business it is alone: checkpoints, devices, the environment, observers and randomness.
"""

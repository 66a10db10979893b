"""What a plugin is written against: the values and base classes of every noun, and the hooks that register them.

Nothing goes in or out: plugins derive from what is here, and every other room takes it. ``harness`` makes these names
public. Imported here is ``support`` alone.
"""

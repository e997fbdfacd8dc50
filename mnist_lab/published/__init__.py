"""Five published series of the same kind as ours: their networks and recipes, what they claim, and what we find."""

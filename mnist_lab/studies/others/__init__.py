"""Five published series like ours, a file each, trained again by their own recipes and held against what they claim."""

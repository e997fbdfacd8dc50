"""Many trainings: studies of a recipe over seeds, the published series in others/, the ablations in search/."""

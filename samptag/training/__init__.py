"""Training: recipes, schedules, batches, checkpoints."""

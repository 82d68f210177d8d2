"""What every command shares: models, segments, devices and weights files; importing it loads none of its modules."""

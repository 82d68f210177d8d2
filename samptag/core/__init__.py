"""What every command shares: networks, segments, devices and model files; importing it loads none of its modules."""

"""From paths to results: inputs in order, decode workers that feed one model, frozen results."""

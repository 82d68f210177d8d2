"""From a path to a result: inputs in order, decode workers feeding one model, frozen results."""

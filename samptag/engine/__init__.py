"""How this machine computes a model: on a CPU in NumPy, on a GPU in torch, both behind one `Predictor`."""

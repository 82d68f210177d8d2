"""How this machine computes a model: in NumPy on a CPU, in torch on a GPU, behind one `Predictor`."""

"""Sound from files: any format, any rate, as blocks of mono float32 at the model's sample rate."""

"""The event engine of the timing simulator, kept with the kernels."""

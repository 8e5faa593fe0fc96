"""Direct convolution: products in 64 bits, one at a time, for what the micro-kernels do not take."""

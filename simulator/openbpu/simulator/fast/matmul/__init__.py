"""MatMul: b is packed while it runs, then come the tiles of a convolution; or any dtypes, slowly."""

"""Windows and axes: Pool, Reduce, bilinear Resize."""

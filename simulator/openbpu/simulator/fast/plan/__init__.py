"""What plans are made of: steps and buffers, walks over axes, and who plans which operator."""

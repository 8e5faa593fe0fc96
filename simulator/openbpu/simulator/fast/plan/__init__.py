"""What plans are made of: steps and buffers, and who plans which operator."""

"""Memory: live ranges, which tensors stay on chip, which share bytes, and addresses in every memory."""

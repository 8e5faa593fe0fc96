"""Code generation: tile instructions, transfers, and the dependencies that their tokens carry."""

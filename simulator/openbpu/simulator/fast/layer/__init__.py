"""What layers that accumulate share: their constants, where the input lies, how int32 becomes the output."""

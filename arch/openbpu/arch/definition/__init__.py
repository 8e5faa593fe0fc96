"""What operators and instructions are defined with: fields, checks, columns for cycles, the registry."""

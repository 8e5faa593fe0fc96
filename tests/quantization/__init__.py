"""Tests of openbpu.quantization."""

"""A model of one image becomes one of several, whose run computes what several runs did: `batched`."""

from openbpu.compiler.batch.rewrite import batched, can_be_batched

__all__ = ["batched", "can_be_batched"]

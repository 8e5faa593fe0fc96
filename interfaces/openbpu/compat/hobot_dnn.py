"""`hobot_dnn`: openbpu.compat.hobot_dnn.pyeasy_dnn, without the import machinery."""

from openbpu.compat import pyeasy_dnn

__all__ = ["pyeasy_dnn"]

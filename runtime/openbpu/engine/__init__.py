"""ONNX Runtime, imported here and nowhere else, so that it sends nothing home.

From 1.29 on its builds for Linux and macOS write a device id and a database of events below the user's cache
folder and look for a collector on the network, unless a variable of the environment says otherwise before the
library is loaded. On Windows, and where somebody imported it before, only its own function stops the events.
"""

import os

_SWITCH = "ORT_DISABLE_TELEMETRY"
_OFF = "1"

_said = os.environ.setdefault(_SWITCH, _OFF)

import onnxruntime  # noqa: E402  # the variable is read while the library loads

if _said == _OFF:  # somebody who set it otherwise wants otherwise
    onnxruntime.disable_telemetry_events()

__all__ = ["onnxruntime"]

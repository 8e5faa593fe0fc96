"""YAML to plain data. A module of its own: it is loaded where a file is no JSON."""

from __future__ import annotations

from typing import Any

import yaml

from openbpu.quantization.onnx.config.keys import once


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no annotations
    """YAML whose keys are text as it stands there: a node may be called `on` or 17."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        del deep
        self.flatten_mapping(node)
        return once([(self._key(key), self.construct_object(value, deep=True)) for key, value in node.value])

    def _key(self, node: Any) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", node.start_mark)
        return str(node.value)


def yaml_data(text: str) -> Any:
    """Return what YAML says; raises ValueError for text that is none, and for a key given twice."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error

"""The places that pydantic reads options from, besides the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from .config_file import read_config_file
from .environment import own_variables


class _Source(PydanticBaseSettingsSource):
    """A place that has all its values at once."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: `__call__` has them all."""
        del field
        return None, field_name, False


class EnvironmentSource(_Source):
    """The variables of the environment that are options."""

    def __call__(self) -> dict[str, Any]:
        """Return the values by option."""
        found = own_variables(os.environ)
        fields = self.settings_cls.model_fields
        return {
            name: self.prepare_field_value(name, field, found[name.upper()], value_is_complex=False)
            for name, field in fields.items()
            if name.upper() in found
        }


class FileSource(_Source):
    """The file that `--config` or THINGSVISION_CONFIG names, if any."""

    def __call__(self) -> dict[str, Any]:
        """Return the values by option. Raises ConfigFileError."""
        file = self.current_state.get("config")
        if not file:
            return {}
        fields = self.settings_cls.model_fields
        types = {name: field.annotation for name, field in fields.items() if name != "config"}
        return read_config_file(Path(file), types)

"""All options of the server, and where their values are read from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..host import machine_core_count, share_cores
from .groups.access import AccessOptions
from .groups.device import MAX_LANES, DeviceOptions
from .groups.people import PeopleOptions
from .groups.process import ProcessOptions
from .groups.shortcuts import ShortcutOptions
from .groups.storage import StorageOptions
from .sources import EnvironmentSource, FileSource


class _FileOption(BaseModel):
    """The file that has the other options."""

    config: Annotated[
        Path | None,
        Field(description='TOML file of options, e.g. device_memory = "40GiB"; default: none'),
    ] = None


# The help lists the options of the last base first.
class Settings(
    ProcessOptions,
    ShortcutOptions,
    StorageOptions,
    PeopleOptions,
    DeviceOptions,
    AccessOptions,
    _FileOption,
    BaseSettings,
):
    """Serve hidden-layer activations of vision networks, and RDMs of them, over gRPC.

    Every option can also be set by an environment variable: THINGSVISION_ and the option's
    name in capitals, e.g. THINGSVISION_DEVICE_MEMORY=40GiB; or in a TOML file (--config). The
    command line takes precedence over the environment, and the environment over the file.
    """

    model_config = SettingsConfigDict(
        env_prefix="THINGSVISION_",
        cli_prog_name="thingsvision-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    @model_validator(mode="after")
    def _share_cores(self) -> Self:
        """Have the defaults of threads and lanes follow from the share; both count as not set."""
        if self.node_share is not None:
            cores = share_cores(machine_core_count(), self.node_share)
            for name, count in (("cpu_lanes", min(MAX_LANES, cores)), ("decode_threads", cores)):
                if name not in self.model_fields_set:
                    self.__dict__[name] = count
        return self

    @property
    def tcp(self) -> bool:
        """Whether the server listens on --host and --port: not if only another way is named."""
        other = self.unix is not None or self.mtls_port is not None
        return "port" in self.model_fields_set or not other

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values are read from, the most important place first."""
        return init_settings, EnvironmentSource(settings_cls), FileSource(settings_cls)

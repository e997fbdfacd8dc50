"""The settings of ``mnist-lab cloud``: from options, else from the environment."""

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnist_lab.cloud.errors import CloudError

VARIABLE = "MNIST_LAB_CLOUD_"  # in the environment: MNIST_LAB_CLOUD_ROLE and so on
PRICED = "us-east-1"  # where these prices hold, on demand; November 2026, by public price tables
USD_PER_HOUR = {"ml.g4dn.xlarge": 0.736, "g4dn.xlarge": 0.526}


def text(pattern: str):
    """Return the type of a text that may be empty, and must match ``pattern`` otherwise."""
    return Annotated[str, Field(pattern=rf"^({pattern})?$")]


class CloudSettings(BaseModel):
    """Where and for how long a run happens; an empty text is not set. commands.SETTINGS says what each one is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    door: Literal["notebook", "job", "ec2"] = "notebook"
    region: text(r"[a-z]{2}(-[a-z]+)+-[0-9]") = ""
    profile: text(r"[^\x00-\x1f]{1,100}") = ""
    role: text(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+|[A-Za-z0-9_+=,.@/-]{1,128}") = ""
    bucket: text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]") = ""
    prefix: text(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,60}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,60}){0,3}") = ""
    name: Annotated[str, Field(pattern=r"^mnist-lab(-[a-z0-9]{1,8})?$")] = "mnist-lab"  # a job's has 63 characters
    instance_type: text(r"[a-z0-9.-]{1,40}") = ""
    image: text(r"[a-zA-Z0-9_./:@-]{1,250}") = ""
    max_minutes: Annotated[float, Field(ge=0.05, le=24 * 60)] = 60
    grace_minutes: Annotated[float, Field(ge=0.05, le=120)] = 10
    poll_seconds: Annotated[float, Field(ge=0.01, le=300)] = 15
    device: Literal["cuda", "cpu"] = "cuda"
    spot: bool = False
    local: bool = False

    @model_validator(mode="after")
    def check(self) -> "CloudSettings":
        """Raise ValueError for settings that contradict each other."""
        if self.machine_type.startswith("ml.") == (self.door == "ec2"):
            raise ValueError(f"--door {self.door} has no {self.machine_type}: only SageMaker's types begin with ml.")
        if self.device == "cuda" and not re.match(r"(ml\.)?(g|p)\d", self.machine_type):
            raise ValueError(f"{self.machine_type} has no GPU: choose one such as g4dn.xlarge, or --device cpu")
        if self.door != "job" and (self.spot or self.local):
            raise ValueError("--spot and --local are for --door job")
        return self

    @property
    def keys(self) -> str:
        """The prefix of all keys of the door, without a slash at its end."""
        return f"{self.prefix or self.name}/{self.door}"

    @property
    def machine_type(self) -> str:
        """The instance type, by default the cheapest one with a GPU."""
        return self.instance_type or ("g4dn.xlarge" if self.door == "ec2" else "ml.g4dn.xlarge")


def usd_per_hour(settings: CloudSettings, region: str) -> float | None:
    """Return the price of the machine in ``region``; None if the table does not hold it, as for spot machines."""
    if settings.spot or settings.local or region != PRICED:
        return None
    return USD_PER_HOUR.get(settings.machine_type)


def read_settings(options: Namespace, environment: Mapping[str, str] = os.environ) -> CloudSettings:
    """Collect settings: an option beats the environment. Raises CloudError."""
    found = {}
    for name in CloudSettings.model_fields:
        given = getattr(options, f"setting_{name}")
        found[name] = environment.get(VARIABLE + name.upper()) if given is None else given
    return make_settings({name: value for name, value in found.items() if value is not None})


def make_settings(values: Mapping[str, object]) -> CloudSettings:
    """Return checked settings. Raises CloudError, which names the option."""
    try:
        return CloudSettings(**values)
    except ValidationError as error:
        problem = error.errors()[0]
    name = str(next(iter(problem["loc"]), ""))
    if problem["type"] == "value_error":
        raise CloudError(problem["msg"].removeprefix("Value error, "))
    raise CloudError(f"--{name.replace('_', '-')} is {problem['input']!r}: {problem['msg'].replace('Input', 'it')}")

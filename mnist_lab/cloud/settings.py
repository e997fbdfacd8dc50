"""The settings of ``mnist-lab sagemaker``: from options, else from the environment, else from a file.

Only the standard library is imported with this module: every help text lists the settings.
"""

import configparser
import difflib
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from mnist_lab.cloud.errors import CloudError

FILE = "sagemaker.ini"  # in the checkout, git-ignored: it names things of one's own account
SECTION = "sagemaker"
VARIABLE = "MNIST_LAB_SAGEMAKER_"  # in the environment: MNIST_LAB_SAGEMAKER_ROLE and so on
OWN = "mnist-lab"  # no command touches an instance of another name
ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+|[\w+=,.@-]{1,64}"
BILL = "an instance in service is billed by the second, and its volume until mnist-lab sagemaker down"
GPU_FAMILY = re.compile(r"ml\.(g|p)\d")


def setting(default: object, about: str, pattern: str = "", low: float | None = None, high: float | None = None):
    """Return a dataclass field with its help text and what its value has to be."""
    return field(default=default, metadata={"help": about, "pattern": pattern, "low": low, "high": high})


@dataclass(frozen=True)
class CloudSettings:
    """Where and on what step 3 runs, and for how long; an empty text is not set. Raises CloudError."""

    region: str = setting("", "AWS region (default: the profile's)", r"[a-z]{2}(-[a-z]+)+-\d")
    profile: str = setting("", "profile of your AWS configuration", r"[^\x00-\x1f]{1,100}")
    role: str = setting("", "name or ARN of the execution role (default: the caller's, if it is one)", ROLE)
    bucket: str = setting("", "S3 bucket (default: SageMaker's own)", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
    prefix: str = setting("", "prefix of all keys (default: the instance's name)", r"[\w.-]{1,60}(/[\w.-]{1,60}){0,3}")
    name: str = setting(OWN, "name of instance and lifecycle configuration", rf"{OWN}(-[a-z0-9]{{1,20}}){{0,2}}")
    instance_type: str = setting("ml.g4dn.xlarge", "instance type")
    platform: str = setting("notebook-al2023-v1", "platform of the instance")
    volume_gb: int = setting(10, "size of the EBS volume, GB", low=5, high=1000)
    max_minutes: float = setting(60, "the run's time limit, minutes", low=0.05, high=24 * 60)
    grace_minutes: float = setting(10, "minutes after the limit in which results are saved", low=0.05, high=120)
    poll_seconds: float = setting(15, "seconds between two requests for the run's state", low=0.01, high=300)
    device: str = setting("cuda", "cuda, or cpu to try everything on a cheap instance", "cuda|cpu")
    data: str = setting("", "folder with MNIST/raw/ to upload, for instances without internet access")
    subnet: str = setting("", "subnet, for an instance inside a VPC without internet access", r"subnet-[0-9a-f]{8,17}")
    security_group: str = setting("", "security group of that VPC", r"sg-[0-9a-f]{8,17}")
    kms_key: str = setting("", "KMS key that encrypts the volume", r"[a-zA-Z0-9:/_-]{1,2048}")
    price: float = setting(0.0, "USD per hour of the instance, to estimate the cost", low=0, high=1000)

    def __post_init__(self) -> None:
        for item in fields(self):
            option, value, rule = option_of(item.name), getattr(self, item.name), item.metadata
            if item.default and value == "":
                raise CloudError(f"{option} is empty: leave it out for {item.default}")
            if rule["low"] is not None and not rule["low"] <= value <= rule["high"]:
                raise CloudError(f"{option} is {value}, but must be between {rule['low']} and {rule['high']}")
            if value and rule["pattern"] and not re.fullmatch(rule["pattern"], value, re.ASCII):
                raise CloudError(f"{option} is {value!r}, but must match {rule['pattern']}")
        if any(part in {".", ".."} for part in self.prefix.split("/")):
            raise CloudError(f"--prefix is {self.prefix!r}, but its parts must be names")
        if self.device == "cuda" and not GPU_FAMILY.match(self.instance_type):
            raise CloudError(f"{self.instance_type} has no GPU: choose one such as ml.g4dn.xlarge, or --device cpu")
        if bool(self.subnet) != bool(self.security_group):
            raise CloudError("--subnet and --security-group belong together: give both or none")

    @property
    def keys(self) -> str:
        """The prefix of all keys, without a slash at its end."""
        return self.prefix or self.name

    @property
    def usd_per_hour(self) -> float | None:
        """The price as given, else that of us-east-1 in November 2026 where it is known, else None."""
        return self.price or {"ml.g4dn.xlarge": 0.736}.get(self.instance_type)


def option_of(name: str) -> str:
    """Return the option that sets a setting."""
    return "--" + name.replace("_", "-")


def add_options(parser: ArgumentParser) -> None:
    """Add an option for every setting; those not given are None after parsing."""
    group = parser.add_argument_group(
        "settings", f"also read from {VARIABLE}<NAME>, and from [{SECTION}] in {FILE} (or --config FILE)"
    )
    group.add_argument("--config", type=Path, metavar="FILE", help="a file of settings")
    for item in fields(CloudSettings):
        about = item.metadata["help"] + (f" (default: {item.default})" if item.default else "")
        group.add_argument(option_of(item.name), dest=f"setting_{item.name}", metavar="X", help=about)


def read_settings(options: Namespace, file: Path, environment: Mapping[str, str] = os.environ) -> CloudSettings:
    """Collect settings: an option beats the environment, which beats ``file`` (or --config). Raises CloudError."""
    known = {item.name: item.type for item in fields(CloudSettings)}
    variables = {name: environment.get(VARIABLE + name.upper()) for name in known}
    given = {name: getattr(options, f"setting_{name}") for name in known}
    texts = read_file(options.config or file, needed=options.config is not None)
    texts |= {name: text for name, text in variables.items() if text}
    texts |= {name: text for name, text in given.items() if text is not None}
    values = {}
    for name, text in texts.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1) or known
            raise CloudError(f"there is no setting {name}: did you mean {', '.join(close)}?")
        try:
            values[name] = known[name](text.strip())
        except ValueError:
            wanted = "a whole number" if known[name] is int else "a number"
            raise CloudError(f"{option_of(name)} is {text!r}, but must be {wanted}") from None
    return CloudSettings(**values)


def read_file(path: Path, needed: bool) -> dict[str, str]:
    """Return what an INI file holds; CloudError if it is damaged, or ``needed`` and missing."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(path, encoding="utf-8") and needed:
            raise CloudError(f"there is no file of settings {path}")
        return dict(parser[SECTION]) if SECTION in parser else {}
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise CloudError(f"cannot read the settings in {path}: {' '.join(str(error).split())}") from error


def check_with_model(settings: CloudSettings) -> None:
    """Raise CloudError unless botocore, which has AWS's lists, knows region, instance type and platform.

    No call is made. botocore itself does not check these before it sends them.
    """
    import botocore.session

    session = botocore.session.get_session()
    model = session.get_service_model("sagemaker").operation_model("CreateNotebookInstance").input_shape.members
    partitions = session.get_available_partitions()  # China and the US government have their own
    for option, value, allowed in [
        ("--region", settings.region, [r for p in partitions for r in session.get_available_regions("sagemaker", p)]),
        ("--instance-type", settings.instance_type, model["InstanceType"].metadata["enum"]),
        ("--platform", settings.platform, model["PlatformIdentifier"].metadata["pattern"].strip("()").split("|")),
    ]:
        if value and value not in allowed:
            close = difflib.get_close_matches(value, allowed, n=3, cutoff=0.5) or allowed[:3]
            raise CloudError(f"{option} is {value!r}, which SageMaker does not have; did you mean {', '.join(close)}?")

"""IAM policies with the least permissions that work, from ``policies/``: a part for all doors, and one for each."""

import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # account.py imports this module
    from mnist_lab.cloud.account import Account

POLICIES = Path(__file__).parent / "policies"
SERVICES = {"notebook": "sagemaker", "job": "sagemaker", "ec2": "ec2"}  # of AWS, behind each door
LOG_GROUPS = {"notebook": "/aws/sagemaker/NotebookInstances", "job": "/aws/sagemaker/TrainingJobs", "ec2": "none"}


def make(kind: str, account: "Account") -> str:
    """Return the "trust", "execution" or "operator" policy for the door that an Account's settings name, as JSON."""
    settings, aws, role = account.settings, account.partition, account.settings.role or "ROLE"
    number = account.caller["Account"]
    here, china = f"{account.region}:{number}", ".cn" if (aws, settings.door) == ("aws-cn", "ec2") else ""
    values = {
        "aws": aws, "region": account.region, "account": number, "prefix": settings.keys, "name": settings.name,
        "bucket": f"arn:{aws}:s3:::{account.bucket()}",
        "sagemaker": f"arn:{aws}:sagemaker:{here}",
        "ec2": f"arn:{aws}:ec2:{here}",
        "logs": f"arn:{aws}:logs:{here}:log-group:{LOG_GROUPS[settings.door]}",
        "role": role if role.startswith("arn:") else f"arn:{aws}:iam::{number}:role/{role}",
        "role_name": role.rpartition("/")[2],
        "service": f"{SERVICES[settings.door]}.amazonaws.com{china}",  # who takes on the role
    }  # fmt: skip
    files = [POLICIES / f"{kind}.json", POLICIES / f"{kind}-{settings.door}.json"]
    parts = [
        json.loads(Template(file.read_text(encoding="utf-8")).substitute(values)) for file in files if file.is_file()
    ]
    return json.dumps({**parts[0], "Statement": [one for part in parts for one in part["Statement"]]}, indent=2)

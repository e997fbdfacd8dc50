"""IAM policies with the least permissions that work, from ``policies/``: for the instance's role, and for who runs
the command (the "operator")."""

from pathlib import Path
from string import Template

POLICIES = Path(__file__).parent / "policies"
LOG_GROUP = "/aws/sagemaker/NotebookInstances"


def make(kind: str, *, account: str, region: str, bucket: str, prefix: str, name: str, role: str) -> str:
    """Return the policy of ``kind``, the name of a file in ``policies/``, as JSON. ``role`` is a name or an ARN."""
    aws = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    return Template((POLICIES / f"{kind}.json").read_text(encoding="utf-8")).substitute(
        bucket=f"arn:{aws}:s3:::{bucket}",
        prefix=prefix,
        name=name,
        sagemaker=f"arn:{aws}:sagemaker:{region}:{account}",
        logs=f"arn:{aws}:logs:{region}:{account}:log-group:{LOG_GROUP}*",
        role=role if role.startswith("arn:") else f"arn:{aws}:iam::{account}:role/{role}",
    )

"""IAM policies with the least that works: for the instance's role and for the person at the command line."""

from mnist_lab.cloud.errors import CloudError

LOG_GROUP = "/aws/sagemaker/NotebookInstances"
KINDS = ("trust", "execution", "operator")


def make(kind: str, *, account: str, region: str, bucket: str, prefix: str, name: str, role: str) -> dict:
    """Return the policy called ``kind``, one of KINDS. ``role`` is the execution role's ARN."""
    if kind == "trust":
        return trust()
    places = Places(partition(region), account, region, bucket, prefix, name)
    if kind == "execution":
        return execution(places)
    if kind == "operator":
        return operator(places, role)
    raise CloudError(f"there is no policy {kind!r}: they are {', '.join(KINDS)}")


def partition(region: str) -> str:
    """Return the second word of every ARN in ``region``."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


class Places:
    """The ARNs of what belongs to one instance."""

    def __init__(self, partition: str, account: str, region: str, bucket: str, prefix: str, name: str):
        sagemaker = f"arn:{partition}:sagemaker:{region}:{account}"
        self.bucket = f"arn:{partition}:s3:::{bucket}"
        self.source = f"{self.bucket}/{prefix}/src/*"
        self.runs = f"{self.bucket}/{prefix}/runs/*"
        self.prefix = f"{prefix}/*"
        self.instance = f"{sagemaker}:notebook-instance/{name}"
        self.script = f"{sagemaker}:notebook-instance-lifecycle-config/{name}"
        self.logs = f"arn:{partition}:logs:{region}:{account}:log-group:{LOG_GROUP}*"


def trust() -> dict:
    """Return who may take on the execution role: SageMaker, nobody else."""
    return document(
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )


def execution(places: Places) -> dict:
    """Return what the instance may do: read its bundle, write its run, stop itself. It cannot change what it runs."""
    return document(
        allow("s3:GetObject", places.source),
        allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], places.runs),
        allow("s3:ListBucket", places.bucket, {"StringLike": {"s3:prefix": places.prefix}}),
        allow(["sagemaker:DescribeNotebookInstance", "sagemaker:StopNotebookInstance"], places.instance),
        allow(
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], places.logs
        ),
    )


def operator(places: Places, role: str) -> dict:
    """Return what whoever runs ``mnist-lab sagemaker`` needs. Who may change the script runs code as the role."""
    instance = [
        f"sagemaker:{action}"
        for action in (
            "CreateNotebookInstance", "DescribeNotebookInstance", "UpdateNotebookInstance", "StartNotebookInstance",
            "StopNotebookInstance", "DeleteNotebookInstance", "CreatePresignedNotebookInstanceUrl", "AddTags",
            "ListTags",
        )
    ]  # fmt: skip
    script = [
        f"sagemaker:{action}NotebookInstanceLifecycleConfig" for action in ("Create", "Describe", "Update", "Delete")
    ]
    bucket = [
        "s3:ListBucket", "s3:CreateBucket", "s3:DeleteBucket", "s3:PutBucketPublicAccessBlock", "s3:GetBucketTagging",
        "s3:PutBucketTagging",
    ]  # fmt: skip
    return document(
        allow(instance, places.instance),
        allow(script, places.script),
        allow(bucket, places.bucket),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], [places.source, places.runs]),
        allow(["logs:GetLogEvents", "logs:DescribeLogStreams", "logs:DeleteLogStream"], places.logs),
        allow("iam:PassRole", role, {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}),
        allow("iam:GetRole", role),
        # Both only read, and AWS knows no resources for them.
        allow(["servicequotas:ListServiceQuotas", "s3:ListAllMyBuckets"], "*"),
    )


def allow(action: str | list[str], resource: str | list[str], condition: dict | None = None) -> dict:
    """Return one statement."""
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return statement if condition is None else {**statement, "Condition": condition}


def document(*statements: dict) -> dict:
    """Return a policy of ``statements``."""
    return {"Version": "2012-10-17", "Statement": list(statements)}

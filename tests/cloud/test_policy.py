import json
import re
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from mnist_lab.cloud import policy
from mnist_lab.cloud.settings import make_settings
from mnist_lab.runtime import ROOT

DOORS = ("notebook", "job", "ec2")
WHERE = {"account": "123456789012", "region": "us-east-1", "bucket": "lab-bucket"}
ROLE = "arn:aws:iam::123456789012:role/lab"
# Where AWS knows no resource: listings, and what is needed before a repository is named.
KNOW_NO_RESOURCE = {"servicequotas:ListServiceQuotas", "sagemaker:ListTrainingJobs", "ecr:GetAuthorizationToken",
                    "ec2:DescribeInstances", "ec2:DescribeSecurityGroups"}  # fmt: skip
NAMES = {"list_objects_v2": "ListBucket", "list_object_versions": "ListBucketVersions", "head_bucket": "ListBucket",
         "put_public_access_block": "PutBucketPublicAccessBlock"}  # fmt: skip


def make(kind: str, door: str = "notebook", **changes) -> list[dict]:
    settings = make_settings({"door": door, "role": changes.pop("role", ROLE)})
    return json.loads(policy.make(kind, settings, **WHERE | changes))["Statement"]


def actions(statement) -> set[str]:
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


def allowed(kind: str, door: str) -> set[str]:
    return {action for statement in make(kind, door) for action in actions(statement)}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["execution", "operator"])
def test_no_wildcard_but_where_aws_knows_no_resource(kind, door):
    for statement in make(kind, door):
        assert not any("*" in action for action in actions(statement))
        assert statement["Resource"] != "*" or actions(statement) <= KNOW_NO_RESOURCE


@pytest.mark.parametrize("door", DOORS)
def test_a_machine_may_not_change_the_bundle_nor_make_machines(door):
    found = allowed("execution", door)
    assert not any(action.startswith("iam:") or "Delete" in action or "Run" in action for action in found)
    assert not any("Create" in action and "Log" not in action for action in found)
    writes = [s["Resource"] for s in make("execution", door) if "s3:PutObject" in actions(s)]
    assert not any("/src/" in resource for resource in writes)
    assert ("sagemaker:StopNotebookInstance" in found) == (door == "notebook")


@pytest.mark.parametrize("door", DOORS)
def test_the_operator_may_pass_one_role_to_its_service_alone(door):
    (statement,) = [s for s in make("operator", door) if "iam:PassRole" in actions(s)]
    assert statement["Resource"] == ROLE
    service = "ec2.amazonaws.com" if door == "ec2" else "sagemaker.amazonaws.com"
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": service}}
    (trust,) = make("trust", door)
    assert trust["Principal"] == {"Service": service}


@pytest.mark.parametrize("door", DOORS)
def test_every_call_of_a_door_is_in_the_operators_policy(door):
    """The calls are read from the source; moto does not judge most actions by resource."""
    source = "".join((ROOT / "mnist_lab" / "cloud" / f"{name}.py").read_text() for name in ("account", "runs", door))
    found = re.findall(r'(?:call|pages)\(\s*"(\w+)",\s*"(\w+)"', source)
    found += [("sagemaker", operation) for operation in re.findall(r'self\.call\(\s*"(\w+_instance\w*)"', source)]
    if door == "notebook":
        made = "notebook_instance_lifecycle_config"
        found += [("sagemaker", f"{verb}_{made}") for verb in ("create", "describe", "update", "delete")]
    if door == "job":
        found += [("sagemaker", "create_training_job"), ("sagemaker", "add_tags")]  # by ModelTrainer
    assert len(found) >= 16
    granted = allowed("operator", door)
    for service, operation in found:
        name = NAMES.get(operation, "".join(word.title() for word in operation.split("_")))
        if service != "sts" and not (service == "logs" and door == "ec2"):
            assert f"{service}:{name.replace('HeadObject', 'GetObject')}" in granted


@pytest.mark.parametrize("door", DOORS)
def test_every_partition_has_its_own_names(door):
    for region, aws in ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"):
        for kind in ("execution", "operator"):
            made = json.dumps(make(kind, door, region=region, role="lab"))
            assert f"arn:{aws}:s3" in made and "arn:aws:" not in made
    (trust,) = make("trust", "ec2", region="cn-north-1")
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com.cn"}


def test_with_the_execution_policy_alone_s3_does_what_a_run_needs_and_nothing_else(aws, emulator):
    iam, s3 = (boto3.client(name, region_name="us-east-1") for name in ("iam", "s3"))
    s3.create_bucket(Bucket="lab-bucket")
    s3.put_object(Bucket="lab-bucket", Key="mnist-lab/notebook/src/x", Body=b"1")
    s3.put_object(Bucket="lab-bucket", Key="other", Body=b"1")
    iam.put_role_policy(
        RoleName="lab", PolicyName="p", PolicyDocument=policy.make("execution", make_settings({}), **WHERE)
    )
    taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=ROLE, RoleSessionName="test")
    keys = taken["Credentials"]
    s3 = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"],
    )  # fmt: skip
    judge(emulator, "0")
    try:
        s3.get_object(Bucket="lab-bucket", Key="mnist-lab/notebook/src/x")
        s3.put_object(Bucket="lab-bucket", Key="mnist-lab/notebook/runs/1/log.txt", Body=b"1")
        s3.head_object(Bucket="lab-bucket", Key="mnist-lab/notebook/runs/1/log.txt")
        for forbidden, arguments in [
            (s3.put_object, {"Key": "mnist-lab/notebook/src/x", "Body": b"2"}),
            (s3.get_object, {"Key": "other"}),
            (s3.delete_object, {"Key": "mnist-lab/notebook/runs/1/log.txt"}),
        ]:
            with pytest.raises(ClientError, match=r"AccessDenied|Forbidden|403"):
                forbidden(Bucket="lab-bucket", **arguments)
    finally:
        judge(emulator, "inf")


def judge(emulator, after: str) -> None:
    """Have moto judge permissions, from the call number ``after`` on."""
    request = urllib.request.Request(
        f"{emulator.url}/moto-api/reset-auth", data=after.encode(), headers={"Content-Type": "text/plain"}
    )
    urllib.request.urlopen(request, timeout=600).close()

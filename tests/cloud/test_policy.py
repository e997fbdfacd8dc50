import json
import re
import urllib.request
from fnmatch import fnmatchcase

import boto3
import pytest
from botocore.exceptions import ClientError

from mnist_lab.cloud import policy
from mnist_lab.cloud.runs import make_run, save
from mnist_lab.runtime import ROOT

DOORS = ("notebook", "job", "ec2")
ROLE = "arn:aws:iam::123456789012:role/lab"
# Where AWS knows no resource: listings, and what is needed before a repository is named.
KNOW_NO_RESOURCE = {"servicequotas:ListServiceQuotas", "sagemaker:ListTrainingJobs", "ecr:GetAuthorizationToken",
                    "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeSecurityGroups"}  # fmt: skip
NAMES = {"list_objects_v2": "ListBucket", "list_object_versions": "ListBucketVersions", "head_bucket": "ListBucket",
         "put_public_access_block": "PutBucketPublicAccessBlock"}  # fmt: skip


@pytest.fixture
def make(connect):
    """Makes the statements of a policy."""

    def make(kind: str, door: str = "notebook", **changes) -> list[dict]:
        return json.loads(policy.make(kind, connect(door=door, **{"role": ROLE, **changes})))["Statement"]

    return make


def actions(statement) -> set[str]:
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


def allowed(statements) -> set[str]:
    return {action for statement in statements for action in actions(statement)}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["execution", "operator"])
def test_no_wildcard_but_where_aws_knows_no_resource(make, kind, door):
    for statement in make(kind, door):
        assert not any("*" in action for action in actions(statement))
        assert statement["Resource"] != "*" or actions(statement) <= KNOW_NO_RESOURCE


@pytest.mark.parametrize("door", DOORS)
def test_a_machine_may_not_change_what_runs_nor_make_machines(make, door, connect):
    found = allowed(make("execution", door))
    assert not any(action.startswith("iam:") or "Delete" in action or "Run" in action for action in found)
    assert not any("Create" in action and "Log" not in action for action in found)
    writes = [s["Resource"] for s in make("execution", door) if "s3:PutObject" in actions(s)]
    run = make_run(connect(door=door), b"", {})
    inputs = f"{run.prefix}/jobs/mnist-lab-{run.run_id}/job/input/code/start.sh"
    for key in (run.bundle_key, run.description_key, inputs):
        assert not any(fnmatchcase(f"arn:aws:s3:::lab-bucket/{key}", resource) for resource in writes)
    assert any(fnmatchcase(f"arn:aws:s3:::lab-bucket/{run.folder}log.txt", resource) for resource in writes)
    assert ("sagemaker:StopNotebookInstance" in found) == (door == "notebook")


@pytest.mark.parametrize("door", DOORS)
def test_the_operator_may_pass_one_role_to_its_service_alone(make, door):
    (statement,) = [s for s in make("operator", door) if "iam:PassRole" in actions(s)]
    assert statement["Resource"] == ROLE
    service = "ec2.amazonaws.com" if door == "ec2" else "sagemaker.amazonaws.com"
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": service}}
    (trust,) = make("trust", door)
    assert trust["Principal"] == {"Service": service}


@pytest.mark.parametrize("door", DOORS)
def test_the_operator_may_do_what_a_door_calls_and_nothing_else(make, door):
    """The calls are read from the source; moto does not judge most actions by resource."""
    source = "".join((ROOT / "mnist_lab" / "cloud" / f"{name}.py").read_text() for name in ("account", "doctor", door))
    found = re.findall(r'(?:call|pages)\(\s*"([\w-]+)",\s*"(\w+)"', source)
    found += [("sagemaker", operation) for operation in re.findall(r'self\.call\(\s*"(\w+_instance\w*)"', source)]
    if door == "notebook":
        made = "notebook_instance_lifecycle_config"
        found += [("sagemaker", f"{verb}_{made}") for verb in ("create", "describe", "update", "delete")]
    if door == "job":
        found += [("sagemaker", "create_training_job"), ("sagemaker", "add_tags")]  # by ModelTrainer
    needed = {
        f"{service.replace('-', '')}:{NAMES.get(operation, operation.title().replace('_', ''))}"
        for service, operation in found
        if service != "sts" and not (service == "logs" and door == "ec2")
    }
    beside = {  # of a call above, or for the commands that README names
        "iam:PassRole", "s3:DeleteObjectVersion", "sagemaker:AddTags", "ec2:CreateTags", "ec2:GetConsoleOutput",
        "logs:FilterLogEvents",
    }  # fmt: skip
    granted = allowed(make("operator", door))
    assert len(needed) >= 16 and needed <= granted and granted - needed <= beside


@pytest.mark.parametrize("door", DOORS)
def test_every_partition_has_its_own_names(make, door):
    for region, aws in ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"):
        for kind in ("execution", "operator"):
            made = json.dumps(make(kind, door, region=region, role="lab"))
            assert f"arn:{aws}:s3" in made and "arn:aws:" not in made
    (trust,) = make("trust", "ec2", region="cn-north-1")
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com.cn"}


def test_with_the_execution_policy_alone_s3_does_what_a_run_needs_and_nothing_else(aws, emulator, connect):
    iam, s3 = (boto3.client(name, region_name="us-east-1") for name in ("iam", "s3"))
    s3.create_bucket(Bucket="lab-bucket")
    run = make_run(connect(), b"1", {})
    save(connect(), run)
    s3.put_object(Bucket="lab-bucket", Key=run.bundle_key, Body=b"1")
    s3.put_object(Bucket="lab-bucket", Key="other", Body=b"1")
    iam.put_role_policy(RoleName="lab", PolicyName="p", PolicyDocument=policy.make("execution", connect()))
    taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=ROLE, RoleSessionName="test")
    keys = taken["Credentials"]
    s3 = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"],
    )  # fmt: skip
    judge(emulator, "0")
    try:
        s3.get_object(Bucket="lab-bucket", Key=run.bundle_key)
        s3.put_object(Bucket="lab-bucket", Key=f"{run.folder}log.txt", Body=b"1")
        s3.head_object(Bucket="lab-bucket", Key=f"{run.folder}log.txt")
        for forbidden, arguments in [
            (s3.put_object, {"Key": run.bundle_key, "Body": b"2"}),
            (s3.put_object, {"Key": run.description_key, "Body": b"2"}),
            (s3.get_object, {"Key": "other"}),
            (s3.delete_object, {"Key": f"{run.folder}log.txt"}),
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

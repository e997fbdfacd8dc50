import json
import re
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from mnist_lab.cloud import policy
from mnist_lab.runtime import ROOT

WHERE = {
    "account": "123456789012", "region": "us-east-1", "bucket": "lab-bucket", "prefix": "mnist-lab",
    "name": "mnist-lab", "role": "arn:aws:iam::123456789012:role/lab",
}  # fmt: skip
KNOW_NO_RESOURCE = {"servicequotas:ListServiceQuotas"}


def make(kind: str, **changes) -> list[dict]:
    return json.loads(policy.make(kind, **WHERE | changes))["Statement"]


def actions(statement) -> set[str]:
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


@pytest.mark.parametrize("kind", ["execution", "operator"])
def test_no_wildcard_but_where_aws_knows_no_resource(kind):
    for statement in make(kind):
        assert not any("*" in action for action in actions(statement))
        assert statement["Resource"] != "*" or actions(statement) <= KNOW_NO_RESOURCE


def test_the_instance_may_stop_itself_and_not_change_what_it_runs():
    allowed = {action for statement in make("execution") for action in actions(statement)}
    assert {"sagemaker:StopNotebookInstance", "sagemaker:DescribeNotebookInstance"} <= allowed
    assert not any(action.startswith("iam:") or "Delete" in action or "Update" in action for action in allowed)
    writes = [s for s in make("execution") if "s3:PutObject" in actions(s)]
    assert [statement["Resource"] for statement in writes] == ["arn:aws:s3:::lab-bucket/mnist-lab/runs/*"]


def test_the_operator_may_pass_one_role_to_sagemaker_alone():
    (statement,) = [s for s in make("operator") if "iam:PassRole" in actions(s)]
    assert statement["Resource"] == WHERE["role"]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_every_call_of_the_package_is_in_the_operators_policy():
    """The calls are read from the source; moto does not judge SageMaker's actions by resource."""
    source = "".join(path.read_text() for path in (ROOT / "mnist_lab" / "cloud").glob("*.py"))
    found = re.findall(r'(?:call|pages)\(\s*"(sagemaker|logs|iam)",\s*"(\w+)"', source)
    found += [("sagemaker", operation) for operation in re.findall(r'self\.call\(\s*"(\w+_instance\w*)"', source)]
    configuration = "notebook_instance_lifecycle_config"
    found += [("sagemaker", f"{verb}_{configuration}") for verb in ("create", "describe", "update", "delete")]
    assert len(found) >= 16
    allowed = {action for statement in make("operator") for action in actions(statement)}
    for service, operation in found:
        assert f"{service}:{''.join(word.title() for word in operation.split('_'))}" in allowed


def test_only_sagemaker_may_take_on_the_role():
    (statement,) = make("trust")
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_china_and_government_have_their_own_partition():
    made = json.dumps(make("operator", region="cn-north-1", role="lab"))
    assert "arn:aws-cn:s3" in made and "arn:aws-cn:iam::123456789012:role/lab" in made and "arn:aws:" not in made
    assert "arn:aws-us-gov:s3" in json.dumps(make("execution", region="us-gov-west-1"))


def test_with_the_execution_policy_alone_s3_does_what_a_run_needs_and_nothing_else(aws, emulator):
    iam, s3 = (boto3.client(name, region_name="us-east-1") for name in ("iam", "s3"))
    s3.create_bucket(Bucket="lab-bucket")
    s3.put_object(Bucket="lab-bucket", Key="mnist-lab/src/x", Body=b"1")
    s3.put_object(Bucket="lab-bucket", Key="other", Body=b"1")
    iam.put_role_policy(RoleName="lab", PolicyName="p", PolicyDocument=policy.make("execution", **WHERE))
    taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=WHERE["role"], RoleSessionName="test")
    keys = taken["Credentials"]
    s3 = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"],
    )  # fmt: skip
    judge(emulator, "0")
    try:
        s3.get_object(Bucket="lab-bucket", Key="mnist-lab/src/x")
        s3.put_object(Bucket="lab-bucket", Key="mnist-lab/runs/1/log.txt", Body=b"1")
        s3.head_object(Bucket="lab-bucket", Key="mnist-lab/runs/1/log.txt")
        for forbidden, arguments in [
            (s3.put_object, {"Key": "mnist-lab/src/x", "Body": b"2"}),
            (s3.get_object, {"Key": "other"}),
            (s3.delete_object, {"Key": "mnist-lab/runs/1/log.txt"}),
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
    urllib.request.urlopen(request, timeout=30).close()

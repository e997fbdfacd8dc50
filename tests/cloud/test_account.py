import re
import sys

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.errors import CloudError, NotThere
from mnist_lab.cloud.settings import CloudSettings

ROLE = "arn:aws:iam::123456789012:role/lab"


def refuse_with(code: str, message: str = "no"):
    def refuse(**arguments):
        raise ClientError({"Error": {"Code": code, "Message": message}}, "Operation")

    return refuse


def test_a_role_is_found_by_name_or_arn(connect):
    assert connect().role() == connect(role=ROLE).role() == ROLE


def test_a_role_that_the_caller_may_not_read_is_taken_as_it_was_named(connect, monkeypatch):
    account = connect()
    monkeypatch.setattr(account.client("iam"), "get_role", refuse_with("AccessDenied"))
    assert account.role() == ROLE


def test_an_unknown_role_or_one_that_does_not_trust_sagemaker_is_a_sentence(connect):
    with pytest.raises(CloudError, match=r"there is no role labb in this account: .*policy execution"):
        connect(role="labb").role()
    document = '{"Version": "2012-10-17", "Statement": []}'
    boto3.client("iam", region_name="us-east-1").create_role(RoleName="closed", AssumeRolePolicyDocument=document)
    with pytest.raises(CloudError, match="policy trust"):
        connect(role="closed").role()


def test_a_wrong_configuration_is_a_sentence(connect, monkeypatch):
    with pytest.raises(CloudError, match="no AWS region is set"):
        connect(region="")
    with pytest.raises(CloudError, match="list-profiles"):
        connect(profile="nobody")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(CloudError, match="no AWS credentials: run aws configure"):
            connect().number()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match="cannot be reached"):
        connect().number()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_bucket_is_made_closed_and_marked_and_removed_when_empty(connect, region):
    account = connect(region=region)
    assert account.make_bucket() == account.make_bucket() == "lab-bucket"
    s3 = account.client("s3")
    block = s3.get_public_access_block(Bucket="lab-bucket")["PublicAccessBlockConfiguration"]
    assert all(block.values()) and len(block) == 4
    place = s3.get_bucket_location(Bucket="lab-bucket")["LocationConstraint"]
    assert place == (None if region == "us-east-1" else region)
    account.upload("lab-bucket", "key", b"1")
    assert not account.remove_bucket("lab-bucket")
    account.call("s3", "delete_object", Bucket="lab-bucket", Key="key")
    assert account.remove_bucket("lab-bucket") and not account.remove_bucket("lab-bucket")


def test_without_a_name_the_bucket_is_sagemakers_own(connect):
    assert connect(bucket="").make_bucket() == "sagemaker-us-east-1-123456789012"
    assert connect().has_bucket("sagemaker-us-east-1-123456789012")


def test_a_bucket_that_was_there_before_is_never_removed(connect):
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="lab-bucket")
    account = connect()
    assert account.make_bucket() == "lab-bucket"
    assert not account.remove_bucket("lab-bucket")


def test_a_bucket_of_another_account_is_a_sentence(connect, monkeypatch):
    account = connect()

    def refuse(**arguments):
        assert arguments["ExpectedBucketOwner"] == "123456789012"  # moto does not compare it; AWS answers 403
        refuse_with("403")()

    monkeypatch.setattr(account.client("s3"), "head_bucket", refuse)
    with pytest.raises(CloudError, match=r"another account.*--bucket"):
        account.make_bucket()


def test_uploads_are_made_once_and_read_from_any_byte(connect, monkeypatch):
    account = connect()
    account.make_bucket()
    assert account.upload("lab-bucket", "key", b"12345")
    assert not account.upload("lab-bucket", "key", b"12345")
    account.call("s3", "put_object", Bucket="lab-bucket", Key="key", Body=b"54321")  # by somebody else
    assert account.upload("lab-bucket", "key", b"12345")
    assert account.upload("lab-bucket", "key", b"123456")
    assert account.read("lab-bucket", "key") == b"123456"
    assert account.read("lab-bucket", "key", 4) == b"56"
    assert account.read("lab-bucket", "key", 6) == b""
    assert account.read("lab-bucket", "other") is None
    monkeypatch.setattr(account.client("s3"), "get_object", refuse_with("InternalError", "failed at 04:16, error 416"))
    with pytest.raises(CloudError, match="InternalError"):
        account.read("lab-bucket", "key", 6)


def test_objects_are_listed_beyond_a_page(connect):
    account = connect()
    account.make_bucket()
    names = [f"a/{number}" for number in range(5)]
    for name in names:
        account.upload("lab-bucket", name, b"1")
    where = {"Bucket": "lab-bucket", "Prefix": "a/", "PaginationConfig": {"PageSize": 2}}
    assert [entry["Key"] for entry in account.pages("s3", "list_objects_v2", "Contents", **where)] == names
    assert [entry["Key"] for entry in account.objects("lab-bucket", "a/")] == names
    assert list(account.objects("no-such-bucket", "a/")) == []


def test_a_dry_run_reads_and_prints_and_changes_nothing(connect, capsys):
    account = connect(dry_run=True)
    account.make_bucket()
    said = capsys.readouterr().err
    assert "calls s3.head_bucket" in said and "would call s3.create_bucket" in said
    with pytest.raises(NotThere):
        account.call("s3", "list_objects_v2", Bucket="lab-bucket")
    account.call("s3", "put_object", Bucket="lab-bucket", Key="k", Body=b"12345")
    assert "<5 bytes>" in capsys.readouterr().err


def test_boto3s_errors_never_come_through(connect):
    with pytest.raises(CloudError) as caught:
        connect().call("s3", "get_object", Bucket="lab-bucket", Key="k")
    assert isinstance(caught.value.__cause__, ClientError)


@pytest.mark.filterwarnings("ignore")  # of the SDK's own imports
def test_who_is_signed_in_as_a_role_needs_to_name_none(monkeypatch):
    """Through SageMaker's SDK, inside moto: the SDK asks a fixed address for the account, so no server can stand in."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    nobody = CloudSettings(region="us-east-1")
    with mock_aws():
        with pytest.raises(CloudError, match=r"not signed in as a role.*--role"):
            Account(nobody).role()
        iam = boto3.client("iam", region_name="us-east-1")
        arn = iam.create_role(RoleName="lab", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=arn, RoleSessionName="test")
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            words = re.findall("[A-Z][a-z]+", name)
            monkeypatch.setenv("_".join(["AWS", *words]).upper(), taken["Credentials"][name])
        assert Account(nobody).role() == arn
    monkeypatch.setitem(sys.modules, "sagemaker.core.helper.session_helper", None)
    with pytest.raises(CloudError, match=r"pip install 'sagemaker>=3.18,<4'.*--role"):
        Account(nobody).role()

import re

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.errors import CloudError, NotThere
from mnist_lab.cloud.settings import CloudSettings

HERE = {"region": "us-east-1", "role": "lab", "bucket": "lab-bucket"}


def connect(dry_run: bool = False, **changes) -> Account:
    return Account(CloudSettings(**{**HERE, **changes}), dry_run)


def test_a_role_is_found_by_name_or_arn(aws):
    assert connect().role() == "arn:aws:iam::123456789012:role/lab"
    assert connect(role="arn:aws:iam::123456789012:role/lab").role() == "arn:aws:iam::123456789012:role/lab"


def test_a_role_that_one_may_not_look_at_is_taken_as_it_was_named(aws, monkeypatch):
    account = connect()

    def refuse(**arguments):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetRole")

    monkeypatch.setattr(account.client("iam"), "get_role", refuse)
    assert account.role() == "arn:aws:iam::123456789012:role/lab"


def test_an_unknown_role_is_a_sentence(aws):
    with pytest.raises(CloudError, match=r"there is no role labb in this account: .*policy execution"):
        connect(role="labb").role()


def test_a_role_that_does_not_trust_sagemaker_is_a_sentence(aws):
    document = '{"Version": "2012-10-17", "Statement": []}'
    boto3.client("iam", region_name="us-east-1").create_role(RoleName="closed", AssumeRolePolicyDocument=document)
    with pytest.raises(CloudError, match="policy trust"):
        connect(role="closed").role()


def test_missing_credentials_are_a_sentence(aws, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CloudError, match="no AWS credentials: run aws configure"):
        connect().number()


def test_no_region_and_an_unknown_profile_are_sentences(aws):
    with pytest.raises(CloudError, match="no AWS region is set"):
        connect(region="")
    with pytest.raises(CloudError, match="list-profiles"):
        connect(profile="nobody")


def test_a_region_that_does_not_answer_is_a_sentence(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match="cannot be reached"):
        connect().number()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_bucket_is_made_closed_and_marked_and_removed_when_empty(aws, region):
    account = connect(region=region)
    assert account.make_bucket() == account.make_bucket() == "lab-bucket"
    s3 = boto3.client("s3", region_name=region)
    block = s3.get_public_access_block(Bucket="lab-bucket")["PublicAccessBlockConfiguration"]
    assert all(block.values()) and len(block) == 4
    place = s3.get_bucket_location(Bucket="lab-bucket")["LocationConstraint"]
    assert place == (None if region == "us-east-1" else region)
    account.upload("lab-bucket", "key", b"1")
    assert not account.remove_bucket("lab-bucket")
    account.call("s3", "delete_object", Bucket="lab-bucket", Key="key")
    assert account.remove_bucket("lab-bucket") and not account.remove_bucket("lab-bucket")


def test_a_bucket_of_ones_own_is_never_removed(aws):
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="lab-bucket")
    account = connect()
    assert account.make_bucket() == "lab-bucket"
    assert not account.remove_bucket("lab-bucket")


def test_a_bucket_of_another_account_is_a_sentence(aws, monkeypatch):
    account = connect()

    def refuse(**arguments):
        assert arguments["ExpectedBucketOwner"] == "123456789012"  # moto does not compare it; AWS answers 403
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadBucket")

    monkeypatch.setattr(account.client("s3"), "head_bucket", refuse)
    with pytest.raises(CloudError, match=r"another account.*--bucket"):
        account.make_bucket()


def test_uploads_are_made_once_and_read_from_any_byte(aws, monkeypatch):
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

    def fail(**arguments):
        raise ClientError({"Error": {"Code": "InternalError", "Message": "failed at 04:16, error 416"}}, "GetObject")

    monkeypatch.setattr(account.client("s3"), "get_object", fail)
    with pytest.raises(CloudError, match="InternalError"):
        account.read("lab-bucket", "key", 6)


def test_objects_are_listed_beyond_a_page(aws, monkeypatch):
    account = connect()
    account.make_bucket()
    for number in range(5):
        account.upload("lab-bucket", f"a/{number}", b"1")
    real = account.call
    monkeypatch.setattr(account, "call", lambda service, operation, **more: real(service, operation, MaxKeys=2, **more))
    assert [entry["Key"] for entry in account.objects("lab-bucket", "a/")] == [f"a/{number}" for number in range(5)]
    assert list(account.objects("no-such-bucket", "a/")) == []


def test_a_dry_run_reads_and_prints_and_changes_nothing(aws, capsys):
    account = connect(dry_run=True)
    account.make_bucket()
    said = capsys.readouterr().err
    assert "calls s3.head_bucket" in said and "would call s3.create_bucket" in said
    with pytest.raises(NotThere):
        account.call("s3", "list_objects_v2", Bucket="lab-bucket")
    account.call("s3", "put_object", Bucket="lab-bucket", Key="k", Body=b"12345")
    assert "<5 bytes>" in capsys.readouterr().err


class TestSdk:
    """SageMaker's own SDK, inside moto: it asks a fixed address for the account, so no server can stand in."""

    @pytest.fixture(autouse=True)
    def cloud(self, monkeypatch):
        for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        with mock_aws():
            yield

    @pytest.mark.filterwarnings("ignore")  # of the SDK's own imports
    def test_the_default_bucket_is_the_sdks(self):
        account = connect(bucket="")
        assert account.make_bucket() == account.bucket_name() == "sagemaker-us-east-1-123456789012"
        account.call("s3", "head_bucket", Bucket="sagemaker-us-east-1-123456789012")

    @pytest.mark.filterwarnings("ignore")
    def test_a_user_is_no_role(self):
        with pytest.raises(CloudError, match=r"not signed in as a role.*--role"):
            connect(role="").role()

    @pytest.mark.filterwarnings("ignore")
    def test_whoever_is_signed_in_as_a_role_needs_to_name_none(self, monkeypatch):
        iam = boto3.client("iam", region_name="us-east-1")
        arn = iam.create_role(RoleName="lab", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=arn, RoleSessionName="test")
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            words = re.findall("[A-Z][a-z]+", name)
            monkeypatch.setenv("_".join(["AWS", *words]).upper(), taken["Credentials"][name])
        assert connect(role="").role() == arn

    def test_without_the_sdk_one_has_to_name_them(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "sagemaker.core.helper", None)
        with pytest.raises(CloudError, match=r"pip install 'sagemaker>=3.18,<4'.*--role"):
            connect(role="").role()


def test_boto3s_errors_never_come_through(aws):
    with pytest.raises(CloudError) as caught:
        connect().call("s3", "get_object", Bucket="lab-bucket", Key="k")
    assert isinstance(caught.value.__cause__, ClientError)

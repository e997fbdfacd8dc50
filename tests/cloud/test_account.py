import json
import sys

import boto3
import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from emulator import TRUST

from mnist_lab.cloud.errors import CloudError, Denied

ROLE = "arn:aws:iam::123456789012:role/lab"


def refuse_with(code: str, message: str = "no"):
    def refuse(*_, **arguments):
        raise ClientError({"Error": {"Code": code, "Message": message}}, "Operation")

    return refuse


class TestRole:
    def make(self, name: str, path: str = "/", trust: str = TRUST) -> str:
        iam = boto3.client("iam", region_name="us-east-1")
        return iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=trust)["Role"]["Arn"]

    def test_it_is_found_by_name_or_arn(self, connect):
        assert connect().role() == connect(role=ROLE).role() == ROLE

    def test_it_may_have_a_path(self, connect):
        arn = self.make("inside", path="/service-role/")
        assert arn.endswith(":role/service-role/inside")
        for wanted in ("inside", "service-role/inside", arn):
            assert connect(role=wanted).role() == arn
        with pytest.raises(CloudError, match=f"but {arn}: name that one"):
            connect(role=arn.replace("service-role", "other")).role()

    def test_one_of_another_account_is_refused(self, connect):
        with pytest.raises(CloudError, match="of another account than yours, 123456789012"):
            connect(role="arn:aws:iam::999999999999:role/lab").role()

    def test_one_that_may_not_be_read_has_to_be_named_in_full(self, connect, monkeypatch):
        for wanted in (ROLE, "lab"):
            account = connect(role=wanted)
            monkeypatch.setattr(account.client("iam"), "get_role", refuse_with("AccessDenied"))
            if wanted == ROLE:
                assert account.role() == ROLE
            else:
                with pytest.raises(CloudError, match="give its whole ARN"):
                    account.role()

    def test_an_unknown_one_or_one_that_trusts_nobody_is_a_sentence(self, connect):
        with pytest.raises(CloudError, match=r"there is no role labb in this account: .*policy execution"):
            connect(role="labb").role()
        self.make("closed", trust='{"Version": "2012-10-17", "Statement": []}')
        for door in ("notebook", "ec2"):
            with pytest.raises(CloudError, match=f"--door {door} may not assume .*policy trust"):
                connect(role="closed", door=door).role()

    def test_without_one_it_is_said_how_to_make_one(self, connect):
        with pytest.raises(CloudError, match=r"--role names no role .*policy trust and policy execution"):
            connect(role="").role()


class TestProfiles:
    """Each way in which a profile can be unusable is one sentence with its cause."""

    @pytest.mark.parametrize(
        ("config", "cause"),
        [
            ("[profile other]\n", r"The config profile \(mine\) could not be found: .*list-profiles"),
            ("[profile mine]\n", "the profile mine holds no AWS credentials"),
            ("[profile mine\n", "the AWS configuration is broken"),
            ("[profile mine]\ncredential_process = false\n", "could not be obtained .*credential_process"),
            ("[profile mine]\ncredential_process = echo hello\n", "cannot be read .*credential_process"),
            ("[profile mine]\ncredential_process = /nowhere/tool\n", "cannot be read .*/nowhere/tool"),
            ("[profile mine]\naws_access_key_id = x\n", "there are no AWS credentials"),
            ("[profile mine]\nrole_arn = arn:aws:iam::123456789012:role/lab\nsource_profile = mine\n", "broken|no AWS"),
            (
                "[profile mine]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
                "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start\n",
                "expired or was never made .*aws sso login",
            ),
            ("[profile mine]\nlogin_session = arn:aws:iam::123456789012:user/me\n", "botocore.crt|aws login"),
        ],
    )
    def test_they_are_told(self, aws, connect, tmp_path, monkeypatch, config, cause):
        (tmp_path / "config").write_text(config)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(CloudError, match=cause) as caught:
            assert connect(profile="mine").caller
        assert "\n" not in str(caught.value)

    def test_no_region_no_credentials_and_no_network_are_told(self, connect, monkeypatch):
        with pytest.raises(CloudError, match="no AWS region is set"):
            connect(region="")
        with monkeypatch.context() as patch:
            patch.delenv("AWS_ACCESS_KEY_ID")
            patch.delenv("AWS_SECRET_ACCESS_KEY")
            with pytest.raises(CloudError, match="there are no AWS credentials: aws configure"):
                connect()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(CloudError, match="cannot be reached"):
            assert connect().caller


class TestBucket:
    @pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
    def test_it_is_made_closed_and_marked_and_removed_when_empty(self, connect, region):
        account = connect(region=region)
        account.make_bucket()
        account.make_bucket()
        s3 = account.client("s3")
        block = s3.get_public_access_block(Bucket="lab-bucket")["PublicAccessBlockConfiguration"]
        assert all(block.values()) and len(block) == 4
        place = s3.get_bucket_location(Bucket="lab-bucket")["LocationConstraint"]
        assert place == (None if region == "us-east-1" else region)
        account.upload("ours/key", b"1")
        account.upload("other", b"1")
        account.empty("ours/")
        assert [entry["Key"] for entry in account.objects("")] == ["other"]
        account.empty("")
        assert not account.has_bucket()
        account.empty("")

    def test_one_that_was_made_meanwhile_is_closed_and_marked_too(self, connect, monkeypatch):
        account = connect(region="eu-west-1")  # us-east-1 does not refuse to make it again
        place = {"LocationConstraint": "eu-west-1"}
        account.call("s3", "create_bucket", Bucket="lab-bucket", CreateBucketConfiguration=place)
        with monkeypatch.context() as patch:
            patch.setattr(account.client("s3"), "head_bucket", refuse_with("404"))
            account.make_bucket()
        assert account.client("s3").get_public_access_block(Bucket="lab-bucket")
        account.empty("")
        assert not account.has_bucket()

    def test_old_versions_go_too(self, connect):
        account = connect()
        account.make_bucket()
        s3 = account.client("s3")
        s3.put_bucket_versioning(Bucket="lab-bucket", VersioningConfiguration={"Status": "Enabled"})
        for content in (b"1", b"2"):
            account.upload("a/key", content)
        s3.delete_object(Bucket="lab-bucket", Key="a/key")
        assert len(list(account.versions("a/"))) == 3
        account.empty("a/")
        assert not account.has_bucket()

    def test_where_versions_may_not_be_listed_it_is_said_and_none_is_forgotten(self, connect, monkeypatch):
        account = connect()
        account.make_bucket()
        account.upload("a/key", b"1")
        monkeypatch.setattr(account.client("s3"), "get_paginator", refuse_with("AccessDenied"))
        with pytest.raises(Denied, match=r"list object versions is not allowed .*policy operator"):
            account.empty("a/")

    def test_one_that_was_there_before_is_never_removed(self, connect):
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="lab-bucket")
        account = connect()
        account.make_bucket()
        account.empty("")
        assert account.has_bucket()

    def test_one_of_another_account_is_a_sentence(self, connect, monkeypatch):
        account = connect()

        def refuse(**arguments):
            assert arguments["ExpectedBucketOwner"] == "123456789012"  # moto does not compare it; AWS answers 403
            refuse_with("403")()

        monkeypatch.setattr(account.client("s3"), "head_bucket", refuse)
        with pytest.raises(CloudError, match=r"another account.*--bucket"):
            account.make_bucket()

    @pytest.mark.filterwarnings("ignore")  # of the SDK's own imports
    def test_without_a_name_it_is_the_sdks(self, connect, tmp_path, monkeypatch):
        assert connect(bucket="").bucket() == "sagemaker-us-east-1-123456789012"
        file = tmp_path / "config.yaml"
        monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(file))
        modules = {"Session": {"DefaultS3Bucket": "from-the-sdk"}}
        file.write_text(json.dumps({"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": modules}}}))
        assert connect(bucket="").bucket() == "from-the-sdk" and connect().bucket() == "lab-bucket"
        file.write_text("SchemaVersion: [")
        with pytest.raises(CloudError, match=r"configuration cannot be read .*--bucket"):
            connect(bucket="").bucket()
        monkeypatch.setitem(sys.modules, "sagemaker.core.config.config", None)
        assert connect(bucket="").bucket() == "sagemaker-us-east-1-123456789012"


def test_objects_are_read_and_listed_beyond_a_page(connect):
    account = connect()
    assert list(account.objects("a/")) == []  # nor is there a bucket
    account.make_bucket()
    account.upload("key", b"123456")
    assert account.read("key") == b"123456" and account.read("other") is None
    names = [f"a/{number}" for number in range(5)]
    for name in names:
        account.upload(name, b"1")
    where = {"Bucket": "lab-bucket", "Prefix": "a/", "PaginationConfig": {"PageSize": 2}}
    assert [entry["Key"] for entry in account.pages("s3", "list_objects_v2", "Contents", **where)] == names
    assert [entry["Key"] for entry in account.objects("a/")] == names


def test_a_connection_that_breaks_while_an_object_arrives_is_a_sentence(connect, monkeypatch):
    account = connect()

    class Broken:
        def read(self):
            raise ResponseStreamingError(error="reset")

    monkeypatch.setattr(account.client("s3"), "get_object", lambda **arguments: {"Body": Broken()})
    with pytest.raises(CloudError, match=r"cannot be reached .*reset"):
        account.read("key")


def test_what_may_not_be_read_is_told_apart_from_what_is_not_there(connect, monkeypatch):
    account = connect()
    account.make_bucket()
    account.upload("there", b"1")
    monkeypatch.setattr(account.client("s3"), "get_object", refuse_with("AccessDenied"))
    assert account.read("other") is None  # S3's answer also for a missing one
    with pytest.raises(Denied, match="you may not read s3://lab-bucket/there: ask for s3:GetObject"):
        account.read("there")

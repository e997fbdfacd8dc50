"""The AWS account: who is calling, the role, the bucket. Every call to AWS goes through here."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from mnist_lab.cloud.errors import CloudError, Denied, Made, NotThere, explained
from mnist_lab.cloud.policy import LOG_GROUPS, SERVICES
from mnist_lab.cloud.settings import CloudSettings

OWN = "mnist-lab"
TAGS = [{"Key": "project", "Value": OWN}]  # mark what was made here


class Account:
    """An AWS account as ``settings`` describe it. Every error of AWS comes out of it as a CloudError."""

    def __init__(self, settings: CloudSettings):
        import boto3

        self.settings = settings
        try:
            with explained("reading the AWS configuration"):
                self.session = boto3.Session(profile_name=settings.profile or None, region_name=settings.region or None)
                found = self.session.get_credentials()
                if found:
                    found.get_frozen_credentials()  # so that what is wrong with a profile shows here
        except (OSError, ValueError, KeyError) as error:  # of a credential_process that is missing, or prints no JSON
            reason = " ".join(str(error).split())
            raise CloudError(
                f"the credentials cannot be read ({reason}): run the profile's credential_process"
            ) from error
        if not found:
            whose = f"the profile {settings.profile} holds" if settings.profile else "there are"
            raise CloudError(f"{whose} no AWS credentials: aws configure, aws sso login, aws login, or --profile NAME")
        if not self.session.region_name:
            raise CloudError("no AWS region is set: give --region, as in --region us-east-1")
        self.region = self.session.region_name
        with explained("finding the region"):  # the part of AWS as ARNs name it: aws, aws-cn, aws-us-gov and others
            self.partition = self.session.get_partition_for_region(self.region)

    @functools.cache  # noqa: B019 - an account lives as long as its command
    def client(self, service: str):
        """Return boto3's client."""
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": 4}
        config = Config(retries=retries, connect_timeout=10, read_timeout=30, user_agent_extra=OWN)
        return self.session.client(service, config=config)

    def call(self, service: str, operation: str, **arguments):
        """Make one call and return AWS's answer.

        Raises NotThere if what is named does not exist, Denied if it is not allowed, CloudError for all else.
        """
        subject = arguments.get("Key") or arguments.get("Bucket") or arguments.get("NotebookInstanceName") or ""
        with explained(f"{service} {operation.replace('_', ' ')} {subject}".strip()):
            return getattr(self.client(service), operation)(**arguments)

    def pages(self, service: str, operation: str, key: str, **arguments) -> Iterator:
        """Yield the entries called ``key`` of all pages of a listing. Raises like :meth:`call`."""
        with explained(f"{service} {operation.replace('_', ' ')}"):
            for page in self.client(service).get_paginator(operation).paginate(**arguments):
                yield from page.get(key, [])

    def wait(self, service: str, waiter: str, **arguments) -> None:
        """Wait until something is as boto3's ``waiter`` names it. CloudError if that fails, or takes 15 minutes."""
        poll = self.settings.poll_seconds
        pace = {"Delay": poll, "MaxAttempts": max(1, round(15 * 60 / poll))}
        with explained(f"waiting ({waiter.replace('_', ' ')})"):
            self.client(service).get_waiter(waiter).wait(WaiterConfig=pace, **arguments)

    @functools.cached_property
    def caller(self) -> dict[str, str]:
        """Who is calling: Account, twelve digits, and Arn."""
        return self.call("sts", "get_caller_identity")

    def role(self) -> str:
        """Return the ARN of the role that was named for machines. Raises CloudError."""
        wanted = self.settings.role
        whole, name = wanted.startswith("arn:"), wanted.rpartition("/")[2]  # the path may be service-role/ or any other
        make_one = "make one with what mnist-lab cloud policy trust and policy execution print, or name another --role"
        if not wanted:
            raise CloudError(f"--role names no role that a machine could take on: {make_one}")
        if whole and wanted.split(":")[4] != self.caller["Account"]:
            raise CloudError(f"{wanted} is of another account than yours, {self.caller['Account']}: {make_one}")
        try:
            found = self.call("iam", "get_role", RoleName=name)["Role"]
        except NotThere:
            raise CloudError(f"there is no role {name} in this account: {make_one}") from None
        except Denied:  # callers who may pass a role need not be allowed to read it
            if not whole:
                raise CloudError(f"you may not read {name} (iam:GetRole): give its whole ARN as --role") from None
            return wanted
        if whole and found["Arn"] != wanted:
            raise CloudError(f"there is no role {wanted}, but {found['Arn']}: name that one with --role")
        if f"{SERVICES[self.settings.door]}.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument", "")):
            raise CloudError(f"--door {self.settings.door} may not assume {name}: give it mnist-lab cloud policy trust")
        return found["Arn"]

    @functools.cache  # noqa: B019
    def bucket(self) -> str:
        """Decide on the bucket: the one that was named, else the SDK's configured one, else the SDK's usual one."""
        return self.settings.bucket or configured_bucket() or f"sagemaker-{self.region}-{self.caller['Account']}"

    def has_bucket(self) -> bool:
        """Return whether the bucket exists. Raises CloudError if it belongs to another account."""
        try:
            self.call("s3", "head_bucket", Bucket=self.bucket(), ExpectedBucketOwner=self.caller["Account"])
        except NotThere:
            return False
        except Denied:
            whose = f"the bucket {self.bucket()} belongs to another account, or you are not allowed to see it"
            raise CloudError(f"{whose}: choose another with --bucket") from None
        return True

    def make_bucket(self) -> None:
        """Make the bucket unless it exists, closed to the public. Raises CloudError if it is another account's."""
        if not self.has_bucket():
            place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            name = {"Bucket": self.bucket()}
            with contextlib.suppress(Made):  # by a request whose answer was lost, or by another command
                self.call("s3", "create_bucket", **name, **({} if self.region == "us-east-1" else place))
            self.call("s3", "put_bucket_tagging", **name, Tagging={"TagSet": TAGS})
            everything = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            block = dict.fromkeys(everything, True)
            self.call("s3", "put_public_access_block", **name, PublicAccessBlockConfiguration=block)

    def empty(self, prefix: str) -> None:
        """Delete what is below ``prefix``, old versions too; then the bucket, if it was made here and is empty."""
        name, there = {"Bucket": self.bucket()}, list(self.versions(prefix)) if self.has_bucket() else []
        for one in there:
            self.call("s3", "delete_object", **name, Key=one["Key"], VersionId=one["VersionId"])
        with contextlib.suppress(NotThere, Denied):
            if self.call("s3", "get_bucket_tagging", **name)["TagSet"] == TAGS and not any(self.versions("")):
                self.call("s3", "delete_bucket", **name)

    def versions(self, prefix: str) -> Iterator[dict]:
        """Yield every version and deletion mark below ``prefix``; an object without versions is one called "null"."""
        for kind in ("Versions", "DeleteMarkers"):
            yield from self.pages("s3", "list_object_versions", kind, Bucket=self.bucket(), Prefix=prefix)

    def objects(self, prefix: str) -> Iterator[dict]:
        """Yield Key, Size and so on of every object below ``prefix``; nothing if the bucket does not exist."""
        with contextlib.suppress(NotThere):
            yield from self.pages("s3", "list_objects_v2", "Contents", Bucket=self.bucket(), Prefix=prefix)

    def upload(self, key: str, content: bytes) -> None:
        """Upload ``content``. S3 compares its checksum."""
        self.call("s3", "put_object", Bucket=self.bucket(), Key=key, Body=content)

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes; None if it does not exist. Denied if it may not be read."""
        try:
            with explained(f"reading {key}"):  # also while its bytes arrive
                return self.call("s3", "get_object", Bucket=self.bucket(), Key=key)["Body"].read()
        except NotThere:
            return None
        except Denied:  # S3's answer also for what does not exist, to callers that may not list
            if any(entry["Key"] == key for entry in self.objects(key)):
                raise Denied(f"you may not read s3://{self.bucket()}/{key}: ask for s3:GetObject") from None
            return None

    def delete_logs(self, prefix: str) -> None:
        """Delete the streams in CloudWatch that begin with ``prefix``, if that is allowed."""
        group = {"logGroupName": LOG_GROUPS[self.settings.door]}
        with contextlib.suppress(NotThere, Denied):
            where = {**group, "logStreamNamePrefix": prefix}
            for one in list(self.pages("logs", "describe_log_streams", "logStreams", **where)):
                self.call("logs", "delete_log_stream", **group, logStreamName=one["logStreamName"])


def configured_bucket() -> str:
    """Return the default bucket in the SageMaker SDK's own configuration files; "" without SDK, files or bucket."""
    try:
        from platformdirs import site_config_dir, user_config_dir

        places = {"ADMIN": site_config_dir("sagemaker"), "USER": user_config_dir("sagemaker")}
        named = [os.environ.get(f"SAGEMAKER_{kind}_CONFIG_OVERRIDE") for kind in places]
        if not any(named) and not any(Path(place, "config.yaml").is_file() for place in places.values()):
            return ""  # without the seconds that the SDK's import takes
        from sagemaker.core.config.config import load_sagemaker_config

        found = load_sagemaker_config()
    except ModuleNotFoundError:
        return ""
    except Exception as error:  # of YAML, its schema, or a file that is missing: of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CloudError(f"the SageMaker SDK's configuration cannot be read ({reason}): give --bucket") from error
    for part in ("SageMaker", "PythonSDK", "Modules", "Session", "DefaultS3Bucket"):
        found = found.get(part) or {}
    return found or ""

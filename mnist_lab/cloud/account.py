"""The AWS account: who is calling, the role, the bucket. Every call to AWS goes through here."""

import base64
import contextlib
import hashlib
import sys
from collections.abc import Iterator

from mnist_lab.cloud.errors import CloudError, Denied, NotThere, OutOfRange, explained
from mnist_lab.cloud.settings import OWN, CloudSettings

READS = ("get_", "describe_", "head_", "list_")
TAGS = [{"Key": "project", "Value": OWN}]  # mark what was made here


class Account:
    """An AWS account as ``settings`` describe it. In a dry run, calls that would change something are only printed.

    Every error of AWS comes out of it as a CloudError.
    """

    def __init__(self, settings: CloudSettings, dry_run: bool = False):
        import boto3

        self.settings, self.dry_run = settings, dry_run
        self._clients: dict[str, object] = {}
        with explained("reading the AWS configuration"):
            self.session = boto3.Session(profile_name=settings.profile or None, region_name=settings.region or None)
        if not self.session.region_name:
            raise CloudError("no AWS region is set: give --region, as in --region us-east-1")
        self.region = self.session.region_name

    def call(self, service: str, operation: str, **arguments):
        """Make one call and return AWS's answer; an empty one in a dry run of a call that changes something.

        Raises NotThere if what is named does not exist, Denied if it is not allowed, CloudError for all else.
        """
        reads = operation.startswith(READS)
        if self.dry_run:
            shown = {name: shorten(value) for name, value in arguments.items()}
            print(f"{'calls' if reads else 'would call'} {service}.{operation} {shown}", file=sys.stderr)
            if not reads:
                return {}
        subject = arguments.get("Key") or arguments.get("Bucket") or arguments.get("NotebookInstanceName") or ""
        with explained(f"{service} {operation.replace('_', ' ')} {subject}".strip()):
            return getattr(self.client(service), operation)(**arguments)

    def pages(self, service: str, operation: str, key: str, **arguments) -> Iterator[dict]:
        """Yield the entries called ``key`` of all pages of a listing. Raises like :meth:`call`."""
        with explained(f"{service} {operation.replace('_', ' ')}"):
            for page in self.client(service).get_paginator(operation).paginate(**arguments):
                yield from page.get(key, [])

    def client(self, service: str):
        """Return boto3's client, made once."""
        from botocore.config import Config

        if service not in self._clients:
            config = Config(
                retries={"mode": "standard", "total_max_attempts": 4},
                connect_timeout=10,
                read_timeout=30,
                user_agent_extra=OWN,
            )
            self._clients[service] = self.session.client(service, config=config)
        return self._clients[service]

    def number(self) -> str:
        """Return the account's twelve digits."""
        return self.call("sts", "get_caller_identity")["Account"]

    def role(self) -> str:
        """Return the ARN of the execution role: the one that was named, else the caller's own. Raises CloudError."""
        wanted = self.settings.role
        if not wanted:
            return self.own_role()
        name = wanted.rpartition("/")[2]
        try:
            found = self.call("iam", "get_role", RoleName=name)["Role"]
        except NotThere:
            raise CloudError(
                f"there is no role {name} in this account: make one with the policies that mnist-lab sagemaker policy "
                "trust and policy execution print, or name another with --role"
            ) from None
        except Denied:  # callers who may pass a role need not be allowed to read it
            if wanted.startswith("arn:"):
                return wanted
            caller = self.call("sts", "get_caller_identity")
            return f"arn:{caller['Arn'].split(':')[1]}:iam::{caller['Account']}:role/{wanted}"
        if "sagemaker.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument", "")):
            raise CloudError(
                f"SageMaker is not allowed to assume the role {name}: give it the trust policy that "
                "mnist-lab sagemaker policy trust prints"
            )
        return found["Arn"]

    def bucket_name(self) -> str:
        """Return the bucket that was named, else SageMaker's own for this account and region."""
        return self.settings.bucket or default_bucket(self.region, self.number())

    def has_bucket(self, name: str) -> bool:
        """Return whether the bucket exists. Raises CloudError if it belongs to another account."""
        try:
            self.call("s3", "head_bucket", Bucket=name, ExpectedBucketOwner=self.number())
        except NotThere:
            return False
        except Denied:
            raise CloudError(
                f"the bucket {name} belongs to another account, or you are not allowed to see it: choose another with "
                "--bucket"
            ) from None
        return True

    def make_bucket(self) -> str:
        """Make the bucket unless it exists, and return its name. Raises CloudError if it is another account's."""
        name = self.bucket_name()
        if not self.has_bucket(name):
            place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            self.call("s3", "create_bucket", Bucket=name, **({} if self.region == "us-east-1" else place))
            everything = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            block = dict.fromkeys(everything, True)
            self.call("s3", "put_public_access_block", Bucket=name, PublicAccessBlockConfiguration=block)
            self.call("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": TAGS})
        return name

    def remove_bucket(self, name: str) -> bool:
        """Delete the bucket if :meth:`make_bucket` made it and it is empty; return whether it was deleted."""
        try:
            ours = self.call("s3", "get_bucket_tagging", Bucket=name)["TagSet"] == TAGS
        except (NotThere, Denied):
            return False
        if not ours or self.call("s3", "list_objects_v2", Bucket=name, MaxKeys=1).get("KeyCount"):
            return False
        self.call("s3", "delete_bucket", Bucket=name)
        return True

    def objects(self, bucket: str, prefix: str) -> Iterator[dict]:
        """Yield Key, Size and so on of every object below ``prefix``; nothing if the bucket does not exist."""
        with contextlib.suppress(NotThere):
            yield from self.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)

    def upload(self, bucket: str, key: str, content: bytes) -> bool:
        """Upload ``content`` unless S3 already has it; return whether it was uploaded. S3 checks every byte."""
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        with contextlib.suppress(NotThere, Denied):
            there = self.call("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            if there.get("ChecksumSHA256") == checksum:
                return False
        sums = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        self.call("s3", "put_object", Bucket=bucket, Key=key, Body=content, **sums)
        return True

    def read(self, bucket: str, key: str, start: int = 0) -> bytes | None:
        """Return an object's bytes from ``start`` on; None if it does not exist (S3 may answer 403 for that)."""
        try:
            answer = self.call("s3", "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-")
        except (NotThere, Denied):
            return None
        except OutOfRange:  # nothing new
            return b""
        return answer["Body"].read()

    def own_role(self) -> str:
        """Ask the SageMaker SDK, which takes seconds to import, which role the caller is. Raises CloudError."""
        try:
            from sagemaker.core.helper.session_helper import Session, get_execution_role
        except ImportError as error:
            raise CloudError(
                "the SageMaker SDK 3 is not installed: pip install 'sagemaker>=3.18,<4', or give --role"
            ) from error
        try:
            with explained("asking for the caller's role"):
                return get_execution_role(Session(boto_session=self.session))
        except ValueError as error:
            raise CloudError(
                f"you are not signed in as a role that an instance could assume ({error}): name one with --role; "
                "mnist-lab sagemaker policy trust and policy execution print what it needs"
            ) from error


def shorten(value: object) -> object:
    """Return ``value`` as a dry run shows it."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, list) and value and "Content" in value[0]:
        return f"<script, {len(value[0]['Content']):,} characters of base64>"
    return value


def default_bucket(region: str, account: str) -> str:
    """Return what SageMaker's SDK calls its own bucket."""
    return f"sagemaker-{region}-{account}"

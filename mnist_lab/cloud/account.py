"""The one door to AWS: who we are there, the role, the bucket, and every call."""

import base64
import contextlib
import hashlib
import sys
from collections.abc import Iterator

from mnist_lab.cloud.errors import CloudError, Denied, NotThere, explain
from mnist_lab.cloud.settings import OWN, CloudSettings

READS = ("get_", "describe_", "head_", "list_")
SDK_MISSING = "the SageMaker SDK 3 is not installed (pip install 'sagemaker>=3.18,<4'): install it, or give {option}"


class Account:
    """An AWS account through ``settings``. With ``dry_run``, calls that would change something are only printed.

    Every call goes through :meth:`call`, and every error comes out of it as a CloudError.
    """

    def __init__(self, settings: CloudSettings, dry_run: bool = False):
        import boto3
        from botocore.exceptions import BotoCoreError

        self.settings, self.dry_run = settings, dry_run
        self._clients: dict[str, object] = {}
        try:
            self.session = boto3.Session(profile_name=settings.profile or None, region_name=settings.region or None)
        except BotoCoreError as error:
            raise explain(error, "reading the AWS configuration") from error
        if not self.session.region_name:
            raise CloudError("no AWS region is set: give --region, as in --region us-east-1")
        self.region = self.session.region_name

    def call(self, service: str, operation: str, **arguments):
        """Make one call and return AWS's answer; an empty one in a dry run of a call that changes something.

        Raises NotThere if what is named does not exist, Denied if it is not allowed, CloudError for all else.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        if self.dry_run:
            shown = {name: shorten(value) for name, value in arguments.items()}
            reads = operation.startswith(READS)
            print(f"{'calls' if reads else 'would call'} {service}.{operation} {shown}", file=sys.stderr)
            if not reads:
                return {}
        try:
            return getattr(self.client(service), operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            subject = arguments.get("Key") or arguments.get("Bucket") or arguments.get("NotebookInstanceName") or ""
            raise explain(error, f"{service} {operation.replace('_', ' ')} {subject}".strip()) from error

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
        """Return the execution role's ARN: the one that was named, else the caller's own. Raises CloudError."""
        wanted = self.settings.role
        if not wanted:
            return self._sdk(lambda session, sdk: sdk.get_execution_role(session), "--role")
        name = wanted.rpartition("/")[2]
        try:
            found = self.call("iam", "get_role", RoleName=name)["Role"]
        except NotThere:
            raise CloudError(
                f"there is no role {name} in this account: make one with the policies that mnist-lab sagemaker policy "
                "trust and policy execution print, or name another with --role"
            ) from None
        except Denied:  # one may be allowed to pass a role and not to look at it
            if wanted.startswith("arn:"):
                return wanted
            caller = self.call("sts", "get_caller_identity")
            return f"arn:{caller['Arn'].split(':')[1]}:iam::{caller['Account']}:role/{wanted}"
        if "sagemaker.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument", "")):
            raise CloudError(
                f"SageMaker may not take on the role {name}: give it the trust policy that "
                "mnist-lab sagemaker policy trust prints"
            )
        return found["Arn"]

    def bucket_name(self) -> str:
        """Return the bucket that was named, else SageMaker's own for this account and region."""
        return self.settings.bucket or default_bucket(self.region, self.number())

    def has_bucket(self, name: str) -> bool:
        """Return whether the bucket is there. Raises CloudError if it is not ours."""
        try:
            self.call("s3", "head_bucket", Bucket=name, ExpectedBucketOwner=self.number())
        except NotThere:
            return False
        except Denied:
            raise CloudError(
                f"the bucket {name} belongs to another account, or you may not see it: choose another with --bucket"
            ) from None
        return True

    def make_bucket(self) -> str:
        """Return the bucket's name, and make the bucket if it is not there. Raises CloudError if it is not ours."""
        if not self.settings.bucket:
            if self.dry_run:
                return self.bucket_name()
            return self._sdk(lambda session, sdk: session.default_bucket(), "--bucket")
        name = self.settings.bucket
        if not self.has_bucket(name):
            place = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
            self.call("s3", "create_bucket", Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
            everything = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            block = dict.fromkeys(everything, True)
            self.call("s3", "put_public_access_block", Bucket=name, PublicAccessBlockConfiguration=block)
            self.call("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": tags()})
        return name

    def remove_bucket(self, name: str) -> bool:
        """Delete the bucket if :meth:`make_bucket` made it and nothing is left in it; return whether it did."""
        try:
            ours = self.call("s3", "get_bucket_tagging", Bucket=name)["TagSet"] == tags()
        except (NotThere, Denied):
            return False
        if not ours or self.call("s3", "list_objects_v2", Bucket=name, MaxKeys=1).get("KeyCount"):
            return False
        self.call("s3", "delete_bucket", Bucket=name)
        return True

    def objects(self, bucket: str, prefix: str) -> Iterator[dict]:
        """Yield Key, Size and so on of everything below ``prefix``; nothing if there is no such bucket."""
        more = {}
        while True:
            try:
                page = self.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            except NotThere:
                return
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def upload(self, bucket: str, key: str, content: bytes) -> bool:
        """Put ``content`` there, unless S3 knows that it is; return whether it was put. S3 checks every byte."""
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        with contextlib.suppress(NotThere, Denied):
            there = self.call("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            if there.get("ChecksumSHA256") == checksum:
                return False
        sums = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        self.call("s3", "put_object", Bucket=bucket, Key=key, Body=content, **sums)
        return True

    def read(self, bucket: str, key: str, start: int = 0) -> bytes | None:
        """Return an object's bytes from ``start`` on; None if it is not there (or hidden: S3 may say 403 for that)."""
        try:
            answer = self.call("s3", "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-")
            return answer["Body"].read()
        except (NotThere, Denied):
            return None
        except CloudError as error:
            if str(error).endswith(("(InvalidRange)", "(416)")):  # nothing new
                return b""
            raise

    def _sdk(self, question, option: str) -> str:
        """Ask the SageMaker SDK, which takes seconds to import; CloudError if it cannot answer."""
        try:
            from sagemaker.core.helper import session_helper as sdk
        except ImportError as error:
            raise CloudError(SDK_MISSING.format(option=option)) from error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return question(sdk.Session(boto_session=self.session), sdk)
        except ValueError as error:
            raise CloudError(
                f"you are not signed in as a role that an instance could take on ({error}): name one with --role; "
                "mnist-lab sagemaker policy trust and policy execution print what it needs"
            ) from error
        except (BotoCoreError, ClientError) as error:
            raise explain(error, f"asking for SageMaker's default {option.strip('-')}") from error


def tags() -> list[dict]:
    """Return what marks things as made here."""
    return [{"Key": "project", "Value": OWN}]


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

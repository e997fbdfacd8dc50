"""What can go wrong with AWS, each in one sentence that says what to do."""

import contextlib
import re
from collections.abc import Iterator

from mnist_lab import LabError

QUOTAS = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"
NOT_THERE = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchEntity", "NoSuchTagSet", "ResourceNotFoundException"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
# What AWS's error codes mean, and the names of botocore's exceptions where AWS was not reached.
MEANINGS = {
    "NoCredentialsError PartialCredentialsError CredentialRetrievalError":
        "there are no AWS credentials: run aws configure (or aws sso login), or name a profile with --profile",
    "ExpiredToken ExpiredTokenException RequestExpired TokenRetrievalError UnauthorizedSSOTokenError SSOTokenLoadError "
    "LoginRefreshRequired":
        "the AWS login has expired ({message}): aws sso login, or renew the credentials",
    "InvalidClientTokenId UnrecognizedClientException InvalidAccessKeyId SignatureDoesNotMatch AuthFailure "
    "InvalidSignatureException":
        "AWS does not accept these credentials ({code}): check them with aws sts get-caller-identity",
    "ProfileNotFound": "{message}: aws configure list-profiles shows the profiles that exist",
    "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError ProxyConnectionError SSLError":
        "AWS cannot be reached ({message}): check the network, and that --region is right",
    "ResourceLimitExceeded":
        f"the account's quota does not allow this instance ({{message}}): ask for more at {QUOTAS} "
        '(search "for notebook instance usage"), or try --instance-type ml.g5.xlarge or ml.g6.xlarge',
    "301 PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException":
        "the bucket is in another region: give that one as --region, or another --bucket",
    "BucketAlreadyExists BucketAlreadyOwnedByYou":
        "the bucket's name is taken by another account: choose another with --bucket",
    "ThrottlingException Throttling SlowDown TooManyRequestsException":
        "AWS asks to slow down ({message}): try again in a minute; every command can be repeated",
}  # fmt: skip


class CloudError(LabError):
    """AWS, or what was asked of it, is not as it has to be."""


class NotThere(CloudError):
    """What was asked for does not exist."""


class Denied(CloudError):
    """The caller is not allowed to do this."""


class OutOfRange(CloudError):
    """The object in S3 has no bytes there."""


@contextlib.contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn botocore's errors into a CloudError, which says what they mean for someone who wanted ``action``."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise explain(error, action) from error


def explain(error: Exception, action: str) -> CloudError:
    """Return what botocore's ``error`` means for someone who wanted ``action``, and what to do about it."""
    answer = getattr(error, "response", {}).get("Error", {})
    code = answer.get("Code") or type(error).__name__
    message = " ".join((answer.get("Message") or str(error)).split())
    for codes, meaning in MEANINGS.items():
        if code in codes.split():
            return CloudError(meaning.format(code=code, message=message))
    if code in NOT_THERE or (answer and re.search(r"RecordNotFound|does not exist|not found", message, re.IGNORECASE)):
        return NotThere(f"{action}: it does not exist ({message})")
    if "assume" in message and "role" in message:
        return CloudError(
            f"SageMaker cannot assume the role ({message}): its trust policy has to be that of "
            "mnist-lab sagemaker policy trust"
        )
    if code in DENIED:
        return Denied(
            f"{action} is not allowed ({message}): compare your permissions with mnist-lab sagemaker policy operator"
        )
    kind = OutOfRange if code in {"InvalidRange", "416"} else CloudError
    return kind(f"{action} failed: {message} ({code})")


def explain_failure(reason: str) -> str:
    """Return what an instance's FailureReason means, and what to do about it."""
    if re.search(r"capacity", reason, re.IGNORECASE):
        return (
            f"AWS has no such instance free at the moment ({reason}): try again later, or --instance-type "
            "ml.g4dn.2xlarge, ml.g5.xlarge or ml.g6.xlarge, or another --region; nothing runs, and only the volume "
            "is billed"
        )
    if re.search(r"lifecycle", reason, re.IGNORECASE):
        return f"the start script failed ({reason}): mnist-lab sagemaker logs --hook shows its output"
    return f"the instance failed ({reason or 'AWS gives no reason'}): mnist-lab sagemaker down, then run again"

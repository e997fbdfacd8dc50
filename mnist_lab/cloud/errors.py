"""What can go wrong with AWS, each in one sentence that says what to do."""

import contextlib
import re
from collections.abc import Iterator

from mnist_lab import LabError

NOT_THERE = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchEntity", "NoSuchTagSet", "ResourceNotFoundException",
             "ResourceNotFound", "InvalidGroup.NotFound", "InvalidInstanceID.NotFound"}  # fmt: skip
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
# What AWS's error codes mean, and the names of botocore's exceptions where AWS was not reached.
MEANINGS = {
    "NoCredentialsError PartialCredentialsError":
        "there are no AWS credentials: run aws configure, aws sso login or aws login, or name a profile with --profile",
    "CredentialRetrievalError":
        "the AWS credentials could not be obtained ({message}): run the profile's credential_process to see why",
    "ConfigParseError ConfigNotFound InvalidConfigError InfiniteLoopConfigError UnknownCredentialError "
    "UnknownTokenProviderError NoAuthTokenError":
        "the AWS configuration is broken ({message}): mend the file that AWS_CONFIG_FILE names, or ~/.aws/config",
    "MissingDependencyException":
        "these credentials, of aws login, need one more package ({message}): pip install 'botocore[crt]'",
    "ExpiredToken ExpiredTokenException RequestExpired TokenRetrievalError UnauthorizedSSOTokenError SSOTokenLoadError "
    "SSOError LoginError LoginRefreshRequired LoginTokenLoadError LoginInsufficientPermissions "
    "LoginAuthorizationCodeError UnauthorizedException":
        "the AWS login has expired or was never made ({message}): aws sso login or aws login, with the profile's name",
    "InvalidClientTokenId UnrecognizedClientException InvalidAccessKeyId SignatureDoesNotMatch AuthFailure "
    "InvalidSignatureException":
        "AWS does not accept these credentials ({code}): check them with aws sts get-caller-identity",
    "ProfileNotFound": "{message}: aws configure list-profiles shows the profiles that exist",
    "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError ProxyConnectionError SSLError "
    "ResponseStreamingError IncompleteReadError":
        "AWS cannot be reached ({message}): check the network, and that --region is right",
    "ResourceLimitExceeded VcpuLimitExceeded MaxSpotInstanceCountExceeded":
        "the account's quota does not allow this machine ({message}): ask for more in the console of Service Quotas, "
        "or try --instance-type with another family, such as g5.xlarge or g6.xlarge",
    "InsufficientInstanceCapacity CapacityError":
        "AWS has no such machine free at the moment ({message}): try again later, or another --instance-type (such as "
        "g4dn.2xlarge, g5.xlarge or g6.xlarge) or --region; nothing runs",
    "301 PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException":
        "the bucket is in another region: give that one as --region, or another --bucket",
    "BucketAlreadyExists":
        "the bucket's name is taken by another account: choose another with --bucket",
}  # fmt: skip
# Where to look for what a machine said before its worker could upload a log.
OUTPUT = "AWS's console has its output, in CloudWatch or as the system log of the EC2 instance"


class CloudError(LabError):
    """AWS, or what was asked of it, is not as it has to be."""


class NotThere(CloudError):
    """What was asked for does not exist."""


class Made(CloudError):
    """What was to be made exists, and is the caller's."""


class Denied(CloudError):
    """The caller is not allowed to do this."""


@contextlib.contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn botocore's errors into a CloudError, which says what they mean for someone who wanted ``action``."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise explain(error, action) from error


def explain(error: Exception, action: str) -> CloudError:
    """Return what botocore's ``error`` means for someone who wanted ``action``, and what to do about it."""
    answer = (getattr(error, "response", None) or {}).get("Error", {})
    code = answer.get("Code") or type(error).__name__
    message = " ".join((answer.get("Message") or str(error)).split())
    for codes, meaning in MEANINGS.items():
        if code in codes.split():
            return CloudError(meaning.format(code=code, message=message))
    if code in NOT_THERE or (answer and re.search(r"RecordNotFound|does not exist|not found", message, re.IGNORECASE)):
        return NotThere(f"{action}: it does not exist ({message})")
    if code == "BucketAlreadyOwnedByYou":
        return Made(f"{action}: it exists already ({message})")
    if "assume" in message and "role" in message and code not in DENIED:
        return CloudError(
            f"AWS cannot assume the role for the machine ({message}): its trust policy has to be that of "
            "mnist-lab cloud policy trust"
        )
    if code in DENIED:
        return Denied(
            f"{action} is not allowed ({message}): compare your permissions with mnist-lab cloud policy operator"
        )
    return CloudError(f"{action} failed: {message} ({code})")


def explain_failure(reason: str) -> str:
    """Return what a machine's reason for failing means, and what to do about it."""
    reason = " ".join(reason.split())
    if re.search(r"capacity", reason, re.IGNORECASE):
        return MEANINGS["InsufficientInstanceCapacity CapacityError"].format(message=reason)
    return f"the machine failed ({reason or 'AWS gives no reason'}): {OUTPUT}"

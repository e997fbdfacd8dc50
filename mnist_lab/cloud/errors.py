"""What can go wrong with AWS, each as one sentence that says what to do."""

import re

QUOTAS = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"
NOT_THERE = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchEntity", "NoSuchTagSet", "ResourceNotFoundException"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
INVALID = {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
           "AuthFailure", "InvalidSignatureException"}  # fmt: skip
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}


class CloudError(RuntimeError):
    """AWS, or what was asked of it, is not as it has to be."""


class NotThere(CloudError):
    """What was asked for does not exist."""


class Denied(CloudError):
    """The caller may not do this."""


def explain(error: Exception, action: str) -> CloudError:
    """Return what botocore's ``error`` means for someone who wanted ``action``, and what to do about it."""
    response = getattr(error, "response", None)
    if response is None:
        return CloudError(explain_connection(error, action))
    code = response.get("Error", {}).get("Code", "")
    message = " ".join(response.get("Error", {}).get("Message", "").split()) or code
    if code in NOT_THERE or re.search(r"RecordNotFound|does not exist|not found", message, re.IGNORECASE):
        return NotThere(f"{action}: it does not exist ({message})")
    if code in EXPIRED:
        return CloudError("the AWS credentials have expired: log in again (aws sso login, or renew them)")
    if code in INVALID:
        return CloudError(
            f"AWS does not accept these credentials ({code}): check them with aws sts get-caller-identity"
        )
    if re.search(r"assume", message) and re.search(r"role", message):
        return CloudError(
            f"SageMaker cannot take on the role ({message}): its trust policy has to be that of "
            "mnist-lab sagemaker policy trust"
        )
    if code in DENIED:
        return Denied(
            f"{action} is not allowed ({message}): compare your permissions with mnist-lab sagemaker policy operator"
        )
    if code == "ResourceLimitExceeded":
        return CloudError(
            f"the account's quota does not allow this instance ({message}): ask for more at {QUOTAS} "
            '(search "for notebook instance usage"), or try --instance-type ml.g5.xlarge or ml.g6.xlarge'
        )
    if code in {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}:
        return CloudError("the bucket is in another region: give that one as --region, or another --bucket")
    if code in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
        return CloudError("the bucket's name is taken by another account: choose another with --bucket")
    if code in {"ThrottlingException", "Throttling", "SlowDown", "TooManyRequestsException"}:
        return CloudError(f"AWS asks to slow down ({message}): try again in a minute; every command can be repeated")
    return CloudError(f"{action} failed: {message} ({code})")


def explain_connection(error: Exception, action: str) -> str:
    """Return a sentence for an error that came before AWS answered."""
    kind = type(error).__name__
    text = " ".join(str(error).split())
    if kind in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return "there are no AWS credentials: run aws configure (or aws sso login), or name a profile with --profile"
    if kind in {"TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginRefreshRequired"}:
        return f"the AWS login has expired: aws sso login ({text})"
    if kind == "ProfileNotFound":
        return f"{text}: aws configure list-profiles shows those there are"
    if kind == "NoRegionError":
        return "no AWS region is set: give --region, as in --region us-east-1"
    if kind in {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError",
                "ProxyConnectionError", "SSLError"}:  # fmt: skip
        return f"AWS cannot be reached ({text}): check the network, and that --region is right"
    return f"{action} failed: {text} ({kind})"


def explain_failure(reason: str) -> str:
    """Return what an instance's FailureReason means, and what to do about it."""
    if re.search(r"capacity", reason, re.IGNORECASE):
        return (
            f"AWS has no such instance free at the moment ({reason}): try again later, or --instance-type "
            "ml.g4dn.2xlarge, ml.g5.xlarge or ml.g6.xlarge, or another --region; nothing runs, nothing is billed but "
            "the volume"
        )
    if re.search(r"lifecycle", reason, re.IGNORECASE):
        return f"the start script failed ({reason}): mnist-lab sagemaker logs --hook shows its output"
    return f"the instance failed ({reason or 'AWS gives no reason'}): mnist-lab sagemaker down, then run again"

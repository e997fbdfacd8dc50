import pytest
from botocore.exceptions import (
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    EndpointConnectionError,
    LoginRefreshRequired,
    MissingDependencyException,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)

from mnist_lab.cloud.errors import CloudError, Denied, Made, NotThere, explain, explain_failure


def client_error(code: str, message: str = "text") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (NoCredentialsError(), CloudError, "aws configure"),
        (CredentialRetrievalError(provider="custom-process", error_msg="no"), CloudError, "credential_process"),
        (ConfigParseError(path="config", error="no"), CloudError, "~/.aws/config"),
        (MissingDependencyException(msg="no crt"), CloudError, "botocore[crt]"),
        (UnauthorizedSSOTokenError(), CloudError, "aws sso login"),
        (LoginRefreshRequired(), CloudError, "aws login"),
        (ProfileNotFound(profile="x"), CloudError, "list-profiles"),
        (EndpointConnectionError(endpoint_url="https://sts.nowhere"), CloudError, "--region is right"),
        (ReadTimeoutError(endpoint_url="https://s3.nowhere"), CloudError, "--region is right"),
        (client_error("ExpiredToken"), CloudError, "aws sso login"),
        (client_error("InvalidClientTokenId"), CloudError, "get-caller-identity"),
        (client_error("AccessDeniedException", "User is not authorized"), Denied, "policy operator"),
        (client_error("403", "Forbidden"), Denied, "policy operator"),
        (client_error("404", "Not Found"), NotThere, "does not exist"),
        (client_error("ValidationException", "RecordNotFound"), NotThere, "does not exist"),
        (client_error("ResourceLimitExceeded", "limit is 0 Instances"), CloudError, "Service Quotas"),
        (client_error("InsufficientInstanceCapacity"), CloudError, "--instance-type"),
        (client_error("InvalidGroup.NotFound"), NotThere, "does not exist"),
        (client_error("PermanentRedirect"), CloudError, "--region"),
        (client_error("BucketAlreadyExists"), CloudError, "--bucket"),
        (client_error("BucketAlreadyOwnedByYou"), Made, "exists already"),
        (client_error("ValidationException", "Could not assume role arn:x"), CloudError, "policy trust"),
        (client_error("SomethingNew", "odd\nthing"), CloudError, "looking failed: odd thing (SomethingNew)"),
    ],
)
def test_each_error_is_one_line_with_what_to_do(error, kind, advice):
    found = explain(error, "looking")
    assert type(found) is kind
    assert advice in str(found) and "\n" not in str(found)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("InsufficientInstanceCapacity: none", "--instance-type"),
        ("Notebook Instance Lifecycle Config 'x' took longer than 5 minutes", "CloudWatch"),
        ("", "AWS gives no reason"),
    ],
)
def test_a_failed_instance_says_what_to_do(reason, advice):
    assert advice in explain_failure(reason)

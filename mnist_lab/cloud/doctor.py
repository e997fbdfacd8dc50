"""Checks everything that a run needs before it is needed, and changes nothing."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.deployment import current_job
from mnist_lab.cloud.errors import QUOTAS, CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.settings import CloudSettings


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    subject: str
    good: bool | None  # None: unknown, and not necessarily a problem
    text: str


def examine(settings: CloudSettings) -> list[Finding]:
    """Return what was found, in the order in which a run needs it; without a login, nothing beyond it."""
    findings = [Finding("libraries", *libraries())]
    try:
        account = Account(settings)
        caller = account.call("sts", "get_caller_identity")
    except CloudError as error:
        return [*findings, Finding("login", False, str(error))]
    findings.append(Finding("login", True, f"{caller['Arn']} in {account.region}"))
    for check in (role, bucket, quota, instance):
        try:
            findings.append(Finding(check.__name__, *check(account)))
        except CloudError as error:
            findings.append(Finding(check.__name__, False, str(error)))
    hourly = settings.usd_per_hour
    price = "unknown; give --price for estimates" if hourly is None else f"about {hourly} USD per hour"
    return [*findings, Finding("price", None if hourly is None else True, f"{settings.instance_type}: {price}")]


def libraries() -> tuple[bool, str]:
    """Name the versions of the libraries that call AWS."""
    found = {"boto3": "missing", "sagemaker": "missing"}
    for name in found:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    good = found["boto3"] != "missing" and found["sagemaker"].startswith("3.")
    return good, text if good else f"{text}: pip install -r mnist_lab/cloud/requirements.txt"


def role(account: Account) -> tuple[bool, str]:
    """Find the execution role."""
    return True, account.role()


def bucket(account: Account) -> tuple[bool, str]:
    """Check whether the bucket exists, or will be made."""
    name = account.bucket_name()
    return True, name if account.has_bucket(name) else f"{name} does not exist yet; the first run makes it"


def quota(account: Account) -> tuple[bool | None, str]:
    """Read how many such instances the account may run."""
    wanted = f"{account.settings.instance_type} for notebook instance usage"
    try:
        listed = account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker")
        found = next((item["Value"] for item in listed if item["QuotaName"] == wanted), None)
    except CloudError as error:
        return None, f"cannot be read ({error}); see {QUOTAS}"
    if found is None:
        return None, f'no quota "{wanted}" is listed: see {QUOTAS}'
    return found >= 1, f'{found:.0f} for "{wanted}"' + ("" if found >= 1 else f": ask for 1 at {QUOTAS}")


def instance(account: Account) -> tuple[bool, str]:
    """Check whether the instance's name is free or ours."""
    found = Instance(account)
    job = current_job(found)
    return True, f"{found.name}: {found.status()}" + (f", of run {job.run_id}" if job else "")

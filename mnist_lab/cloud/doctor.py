"""Looks at everything that a run needs before it is needed, and changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.deployment import current_job
from mnist_lab.cloud.errors import QUOTAS, CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.settings import CloudSettings


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    good: bool | None  # None: cannot be told, and need not hinder
    text: str


def examine(settings: CloudSettings) -> list[Finding]:
    """Return what was found, in the order in which a run needs it. Without a login, nothing after it can be told."""
    findings = [Finding("libraries", *libraries())]
    try:
        account = Account(settings)
        caller = account.call("sts", "get_caller_identity")
    except CloudError as error:
        return [*findings, Finding("login", False, str(error))]
    findings.append(Finding("login", True, f"{caller['Arn']} in {account.region}"))
    looks: list[tuple[str, Callable[[Account], tuple[bool | None, str]]]] = [
        ("role", lambda account: (True, account.role())),
        ("bucket", bucket),
        ("quota", quota),
        ("instance", instance),
    ]
    for subject, look in looks:
        try:
            findings.append(Finding(subject, *look(account)))
        except CloudError as error:
            findings.append(Finding(subject, False, str(error)))
    hourly = settings.usd_per_hour
    price = "unknown; give --price for estimates" if hourly is None else f"about {hourly} USD per hour"
    return [*findings, Finding("price", None if hourly is None else True, f"{settings.instance_type}: {price}")]


def libraries() -> tuple[bool, str]:
    """Name the versions of what talks to AWS."""
    found = {}
    for name in ("boto3", "sagemaker"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    good = all(found.values()) and found["sagemaker"].startswith("3.")
    return good, text if good else f"{text}: pip install -r requirements.txt"


def bucket(account: Account) -> tuple[bool, str]:
    """See whether the bucket is there, or will be made."""
    name = account.bucket_name()
    return True, name if account.has_bucket(name) else f"{name} is not there yet; the first run makes it"


def quota(account: Account) -> tuple[bool | None, str]:
    """Read how many such instances the account may run."""
    wanted = f"{account.settings.instance_type} for notebook instance usage"
    more = {}
    while True:
        try:
            page = account.call(
                "service-quotas", "list_service_quotas", ServiceCode="sagemaker", MaxResults=100, **more
            )
        except CloudError as error:
            return None, f"cannot be read ({error}); see {QUOTAS}"
        for item in page["Quotas"]:
            if item["QuotaName"] == wanted:
                return item["Value"] >= 1, f'{item["Value"]:.0f} for "{wanted}"' + (
                    "" if item["Value"] >= 1 else f": ask for 1 at {QUOTAS}"
                )
        if not page.get("NextToken"):
            return None, f'no quota "{wanted}" is listed: see {QUOTAS}'
        more = {"NextToken": page["NextToken"]}


def instance(account: Account) -> tuple[bool, str]:
    """See whether the name is free or ours."""
    found = Instance(account)
    job = current_job(found)
    return True, f"{found.name}: {found.status()}" + (f", of run {job.run_id}" if job else "")

"""Checks everything that a run needs before it is needed, and changes nothing."""

from collections.abc import Iterator

from mnist_lab.cloud.doors import Door
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.policy import SERVICES
from mnist_lab.cloud.settings import usd_per_hour

CONSOLES = {"aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}


def examine(door: Door) -> Iterator[tuple[str, bool, str]]:
    """Yield subject, whether it is good, and what was found, as a run needs it; nothing beyond a login that fails."""
    account, kind = door.account, door.account.settings.machine_type
    checks = {
        "login": lambda: f"{account.caller['Arn']} in {account.region}",
        "role": account.role,
        "bucket": lambda: account.bucket() + ("" if account.has_bucket() else ": the first run makes it"),
        "machines": door.check,
        "quota": lambda: quota(door),
        "price": lambda: f"{kind}: about {usd_per_hour(account.settings, account.region) or '?'} USD per hour",
    }
    for subject, check in checks.items():
        try:
            yield subject, True, check()
        except CloudError as error:
            yield subject, False, str(error)
            if subject == "login":
                return


def quota(door: Door) -> str:
    """Read how many machines, or on EC2 how many of their virtual CPUs, the account may have."""
    account, service = door.account, SERVICES[door.account.settings.door]
    listed = account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode=service)
    found = next((item["Value"] for item in listed if item["QuotaName"] == door.quota), None)
    console = f"https://{account.region}.console.{CONSOLES.get(account.partition, 'aws.amazon.com')}"
    place = f"{console}/servicequotas/home/services/{service}/quotas"
    if found is not None and found < (need := door.need()):
        raise CloudError(f'{found:.0f} for "{door.quota}", and a run needs {need}: ask for more at {place}')
    return f'no "{door.quota}" is listed: see {place}' if found is None else f'{found:.0f} for "{door.quota}"'

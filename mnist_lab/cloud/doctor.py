"""Checks everything that a run needs before it is needed, and changes nothing."""

from collections.abc import Iterator

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.doors import door_of
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.policy import partition
from mnist_lab.cloud.settings import CloudSettings

CONSOLES = {"aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}
Finding = tuple[str, bool | None, str]  # subject; whether it is good, None if that is unknown; what was found


def examine(settings: CloudSettings) -> Iterator[Finding]:
    """Yield what was found, in the order in which a run needs it; without a login, nothing beyond it."""
    try:
        account = Account(settings)
        yield "login", True, f"{account.caller['Arn']} in {account.region}"
    except CloudError as error:
        yield "login", False, str(error)
        return
    for check in (role, bucket, machines, quota):
        try:
            yield check.__name__, *check(account)
        except CloudError as error:
            yield check.__name__, None if check is quota else False, str(error)
    hourly = settings.usd_per_hour
    yield "price", hourly and True, f"{settings.machine_type}: about {hourly or '? (--price)'} USD per hour"


def role(account: Account) -> tuple[bool, str]:
    """Find the role that machines take on."""
    return True, account.role()


def bucket(account: Account) -> tuple[bool, str]:
    """Check whether the bucket exists, or will be made."""
    return True, account.bucket() + ("" if account.has_bucket() else ": the first run makes it")


def machines(account: Account) -> tuple[bool, str]:
    """Check what is there already, and whether it is ours."""
    return True, door_of(account).check()


def quota(account: Account) -> tuple[bool | None, str]:
    """Read how many machines, or on EC2 how many of their virtual CPUs, the account may have."""
    service, needed = ("ec2", 4) if account.settings.door == "ec2" else ("sagemaker", 1)  # the smallest GPU machine
    wanted = door_of(account).quota
    console = f"https://{account.region}.console.{CONSOLES.get(partition(account.region), 'aws.amazon.com')}"
    place = f"{console}/servicequotas/home/services/{service}/quotas"
    listed = account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode=service)
    found = next((item["Value"] for item in listed if item["QuotaName"] == wanted), None)
    if found is None:
        return None, f'no quota "{wanted}" is listed: see {place}'
    return found >= needed, f'{found:.0f} for "{wanted}"' + ("" if found >= needed else f": ask for more at {place}")

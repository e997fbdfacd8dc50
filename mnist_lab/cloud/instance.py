"""The notebook instance and its lifecycle configuration, which share a name."""

import time
from collections.abc import Collection

from mnist_lab.cloud.account import Account, tags
from mnist_lab.cloud.errors import CloudError, NotThere, explain_failure
from mnist_lab.cloud.script import decode, encode

AT_REST = ("Stopped", "Failed")
MOVING = 15 * 60  # seconds that AWS may take to start, stop or delete; mostly some minutes


class Instance:
    """The instance called ``account.settings.name``. All can be repeated; nothing of another maker is touched."""

    def __init__(self, account: Account):
        self.account, self.settings = account, account.settings
        self.name = account.settings.name

    def describe(self) -> dict | None:
        """Return AWS's description, None if there is no such instance. CloudError if somebody else made it."""
        try:
            found = self.account.call("sagemaker", "describe_notebook_instance", NotebookInstanceName=self.name)
            marks = self.account.call("sagemaker", "list_tags", ResourceArn=found["NotebookInstanceArn"])["Tags"]
        except NotThere:
            return None
        if tags()[0] not in marks:
            raise CloudError(
                f"the name {self.name} is taken by an instance that mnist-lab did not make: choose another with "
                f"--name, as in --name {self.name}-2"
            )
        return found

    def status(self) -> str:
        """Return AWS's word for its state, "none" if there is no such instance."""
        found = self.describe()
        return found["NotebookInstanceStatus"] if found else "none"

    def script(self) -> str | None:
        """Return the script it runs at its start; None if there is no configuration."""
        try:
            found = self.account.call(
                "sagemaker",
                "describe_notebook_instance_lifecycle_config",
                NotebookInstanceLifecycleConfigName=self.name,
            )
        except NotThere:
            return None
        return decode(found["OnStart"][0]["Content"]) if found.get("OnStart") else None

    def put_script(self, script: str) -> bool:
        """Make ``script`` the one that the next start runs; return whether that changed anything."""
        before = self.script()
        if before == script:
            return False
        operation = ("create" if before is None else "update") + "_notebook_instance_lifecycle_config"
        self.account.call(
            "sagemaker",
            operation,
            NotebookInstanceLifecycleConfigName=self.name,
            OnStart=[{"Content": encode(script)}],
        )
        return True

    def create(self, role: str) -> None:
        """Make the instance, which AWS starts at once."""
        settings = self.settings
        network = {}
        if settings.subnet:
            network = {"SubnetId": settings.subnet, "SecurityGroupIds": [settings.security_group]}
        self.account.call(
            "sagemaker",
            "create_notebook_instance",
            NotebookInstanceName=self.name,
            InstanceType=settings.instance_type,
            RoleArn=role,
            LifecycleConfigName=self.name,
            VolumeSizeInGB=settings.volume_gb,
            PlatformIdentifier=settings.platform,
            DirectInternetAccess="Disabled" if settings.subnet else "Enabled",
            RootAccess="Disabled",  # the watchdog is root's: no notebook can end it
            InstanceMetadataServiceConfiguration={"MinimumInstanceMetadataServiceVersion": "2"},
            Tags=tags(),
            **network,
            **({"KmsKeyId": settings.kms_key} if settings.kms_key else {}),
        )

    def adapt(self, found: dict, role: str) -> bool:
        """Change a stopped instance to what the settings ask for; return whether anything was to change.

        Raises CloudError for what AWS changes in no instance: its subnet, its key, a volume that is to be smaller.
        """
        for option, differs in [
            ("--subnet", (found.get("SubnetId") or "") != self.settings.subnet),
            ("--kms-key", bool(found.get("KmsKeyId")) != bool(self.settings.kms_key)),  # AWS may name a key otherwise
        ]:
            if differs:
                raise CloudError(
                    f"{option} cannot change once the instance is made: give it as it was then, or "
                    "mnist-lab sagemaker down first"
                )
        if found.get("VolumeSizeInGB", 0) > self.settings.volume_gb:
            raise CloudError(
                f"the volume has {found['VolumeSizeInGB']} GB and cannot shrink to {self.settings.volume_gb}: give "
                f"--volume-gb {found['VolumeSizeInGB']}, or mnist-lab sagemaker down first"
            )
        wanted = {
            "InstanceType": self.settings.instance_type,
            "RoleArn": role,
            "VolumeSizeInGB": self.settings.volume_gb,
            "PlatformIdentifier": self.settings.platform,
            "LifecycleConfigName": self.name,
        }
        now = {**found, "LifecycleConfigName": found.get("NotebookInstanceLifecycleConfigName")}
        changes = {name: value for name, value in wanted.items() if now.get(name) != value}
        if changes:
            self.account.call("sagemaker", "update_notebook_instance", NotebookInstanceName=self.name, **changes)
            self.wait(AT_REST)
        return bool(changes)

    def start(self) -> None:
        """Start the stopped instance. Raises CloudError if the script that stops it again is no longer its own."""
        found = self.describe() or {}
        if found.get("NotebookInstanceLifecycleConfigName") != self.name and not self.account.dry_run:
            raise CloudError(
                f"{self.name} no longer has its lifecycle configuration, so nothing would stop it: "
                "mnist-lab sagemaker up gives it back"
            )
        self.account.call("sagemaker", "start_notebook_instance", NotebookInstanceName=self.name)

    def request_stop(self) -> None:
        """Have the instance stopped, as soon as AWS takes the request: it does not while the instance is Pending."""
        deadline = time.monotonic() + MOVING
        while (status := self.status()) not in (*AT_REST, "Stopping", "Deleting", "none"):
            try:
                self.account.call("sagemaker", "stop_notebook_instance", NotebookInstanceName=self.name)
            except CloudError:
                if time.monotonic() > deadline or status == "InService" == self.status():
                    raise  # in service, it was no matter of waiting
                time.sleep(self.settings.poll_seconds)
            if self.account.dry_run:
                return

    def wait(self, statuses: Collection[str], seconds: float = MOVING) -> str:
        """Wait for one of ``statuses`` and return it. CloudError if it fails instead, or does not come in time."""
        deadline = time.monotonic() + seconds
        while not self.account.dry_run:
            found = self.describe() or {"NotebookInstanceStatus": "none"}
            status = found["NotebookInstanceStatus"]
            if status in statuses:
                return status
            if status == "Failed":
                raise CloudError(explain_failure(found.get("FailureReason", "")))
            if time.monotonic() > deadline:
                raise CloudError(
                    f"the instance is {status} since {seconds / 60:.0f} minutes, not {' or '.join(statuses)}: AWS "
                    "cannot be hurried there; look again with mnist-lab sagemaker status"
                )
            time.sleep(self.settings.poll_seconds)
        return next(iter(statuses))

    def delete(self) -> None:
        """Stop and delete the instance, and then its configuration, whichever there are."""
        if self.describe():
            self.request_stop()
            if self.wait((*AT_REST, "Deleting", "none")) in AT_REST:
                self.account.call("sagemaker", "delete_notebook_instance", NotebookInstanceName=self.name)
            self.wait(("none",))
        if self.script() is not None:
            self.account.call(
                "sagemaker",
                "delete_notebook_instance_lifecycle_config",
                NotebookInstanceLifecycleConfigName=self.name,
            )

    def url(self) -> str:
        """Return an address that signs its bearer in to Jupyter; AWS lets it be used for five minutes."""
        answer = self.account.call(
            "sagemaker", "create_presigned_notebook_instance_url", NotebookInstanceName=self.name
        )
        return answer.get("AuthorizedUrl", "")

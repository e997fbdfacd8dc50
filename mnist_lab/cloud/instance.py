"""The notebook instance and its lifecycle configuration, which have the same name."""

import time
from collections.abc import Collection

from mnist_lab.cloud.account import TAGS, Account
from mnist_lab.cloud.errors import CloudError, NotThere, explain_failure
from mnist_lab.cloud.script import decode, encode

AT_REST = ("Stopped", "Failed")
MOVING = 15 * 60  # seconds that AWS may take to start, stop or delete; usually some minutes


class Instance:
    """The instance called ``account.settings.name``. Every method can be repeated; only what we made is touched."""

    def __init__(self, account: Account):
        self.account, self.settings = account, account.settings
        self.name = account.settings.name

    def call(self, operation: str, **arguments):
        """Make a SageMaker call about this instance."""
        return self.account.call("sagemaker", operation, NotebookInstanceName=self.name, **arguments)

    def call_config(self, verb: str, **arguments):
        """Make a SageMaker call about this instance's lifecycle configuration."""
        operation = f"{verb}_notebook_instance_lifecycle_config"
        return self.account.call("sagemaker", operation, NotebookInstanceLifecycleConfigName=self.name, **arguments)

    def describe(self) -> dict | None:
        """Return AWS's description, None if there is no such instance. CloudError if somebody else made it."""
        try:
            found = self.call("describe_notebook_instance")
            tags = self.account.call("sagemaker", "list_tags", ResourceArn=found["NotebookInstanceArn"])["Tags"]
        except NotThere:
            return None
        if TAGS[0] not in tags:
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
        """Return the script that it runs at its start; None if there is no configuration."""
        try:
            found = self.call_config("describe")
        except NotThere:
            return None
        return decode(found["OnStart"][0]["Content"]) if found.get("OnStart") else None

    def put_script(self, script: str) -> bool:
        """Make ``script`` the one that the next start runs; return whether that changed anything."""
        before = self.script()
        if before == script:
            return False
        self.call_config("create" if before is None else "update", OnStart=[{"Content": encode(script)}])
        return True

    def create(self, role: str) -> None:
        """Make the instance, which AWS starts at once."""
        settings = self.settings
        network = {}
        if settings.subnet:
            network = {"SubnetId": settings.subnet, "SecurityGroupIds": [settings.security_group]}
        self.call(
            "create_notebook_instance",
            InstanceType=settings.instance_type,
            RoleArn=role,
            LifecycleConfigName=self.name,
            VolumeSizeInGB=settings.volume_gb,
            PlatformIdentifier=settings.platform,
            DirectInternetAccess="Disabled" if settings.subnet else "Enabled",
            RootAccess="Disabled",  # the watchdog runs as root, so that no notebook can end it
            InstanceMetadataServiceConfiguration={"MinimumInstanceMetadataServiceVersion": "2"},
            Tags=TAGS,
            **network,
            **({"KmsKeyId": settings.kms_key} if settings.kms_key else {}),
        )

    def adapt(self, found: dict, role: str) -> bool:
        """Change a stopped instance to what the settings ask for; return whether anything had to change.

        Raises CloudError for what AWS cannot change in an instance: its subnet, its key, a volume that is too large.
        """
        for option, differs in [
            ("--subnet", (found.get("SubnetId") or "") != self.settings.subnet),
            ("--kms-key", bool(found.get("KmsKeyId")) != bool(self.settings.kms_key)),  # AWS may spell it differently
        ]:
            if differs:
                raise CloudError(
                    f"{option} cannot change once the instance exists: give it as it was then, or "
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
            self.call("update_notebook_instance", **changes)
            self.wait(AT_REST)
        return bool(changes)

    def start(self) -> None:
        """Start the stopped instance. Raises CloudError if it no longer has the script that stops it again."""
        found = self.describe() or {}
        if found.get("NotebookInstanceLifecycleConfigName") != self.name and not self.account.dry_run:
            raise CloudError(
                f"{self.name} no longer has its lifecycle configuration, so nothing would stop it: "
                "mnist-lab sagemaker up gives it back"
            )
        self.call("start_notebook_instance")

    def request_stop(self) -> None:
        """Ask AWS to stop the instance until it accepts; it refuses while the instance is Pending."""
        deadline = time.monotonic() + MOVING
        while (status := self.status()) not in (*AT_REST, "Stopping", "Deleting", "none"):
            try:
                self.call("stop_notebook_instance")
            except CloudError:
                if time.monotonic() > deadline or status == "InService" == self.status():
                    raise  # an instance in service could have been stopped
                time.sleep(self.settings.poll_seconds)
            if self.account.dry_run:
                return

    def wait(self, statuses: Collection[str], seconds: float = MOVING) -> str:
        """Wait for one of ``statuses`` and return it. CloudError if the instance fails instead, or takes too long."""
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
                    f"the instance has been {status} for {seconds / 60:.0f} minutes instead of "
                    f"{' or '.join(statuses)}: nothing can hurry AWS; try mnist-lab sagemaker status later"
                )
            time.sleep(self.settings.poll_seconds)
        return next(iter(statuses))

    def delete(self) -> None:
        """Stop and delete the instance, and then its configuration, if they exist."""
        if self.describe():
            self.request_stop()
            if self.wait((*AT_REST, "Deleting", "none")) in AT_REST:
                self.call("delete_notebook_instance")
            self.wait(("none",))
        if self.script() is not None:
            self.call_config("delete")

    def url(self) -> str:
        """Return an address that signs whoever opens it in to Jupyter; AWS lets it be used for five minutes."""
        return self.call("create_presigned_notebook_instance_url").get("AuthorizedUrl", "")

"""A SageMaker notebook instance and its lifecycle configuration, which have the same name."""

import base64
import time

from mnist_lab.cloud.account import TAGS, Account
from mnist_lab.cloud.errors import CloudError, NotThere, explain_failure
from mnist_lab.cloud.runs import NONE, Machine, Run, render

AT_REST = ("Stopped", "Failed")
ASKING = 15 * 60  # seconds in which AWS may refuse a stop, since the instance is still Pending
LARGEST = 12_288  # bytes of the script: AWS takes 16,384 characters of base64
PLATFORM = "notebook-al2023-v1"
VOLUME_GB = 10  # it is billed until the instance is deleted


class NotebookInstance:
    """The instance called ``account.settings.name``, which is stopped after a run and started again for the next."""

    def __init__(self, account: Account):
        self.account, self.settings, self.name = account, account.settings, account.settings.name
        self.quota = f"{self.settings.machine_type} for notebook instance usage"

    def script(self, run: Run) -> str:
        """Return the lifecycle script. Raises CloudError if AWS would not take it."""
        return render(run, "host.sh", LARGEST, "notebook.sh")

    def call(self, operation: str, **arguments):
        """Make a SageMaker call about this instance."""
        return self.account.call("sagemaker", operation, NotebookInstanceName=self.name, **arguments)

    def call_config(self, verb: str, **arguments):
        """Make a SageMaker call about this instance's lifecycle configuration."""
        operation = f"{verb}_notebook_instance_lifecycle_config"
        return self.account.call("sagemaker", operation, NotebookInstanceLifecycleConfigName=self.name, **arguments)

    def describe(self) -> dict:
        """Return AWS's description, with the status "none" if there is no such instance.

        Raises CloudError if somebody else made it.
        """
        try:
            found = self.call("describe_notebook_instance")
            arn = found["NotebookInstanceArn"]
            tags = list(self.account.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn))
        except NotThere:
            return {"NotebookInstanceStatus": "none"}
        if TAGS[0] not in tags:
            other = f"choose another with --name, as in --name {self.name}-2"
            raise CloudError(f"the name {self.name} is taken by an instance that mnist-lab did not make: {other}")
        return found

    def status(self) -> str:
        """Return AWS's word for its state, "none" if there is no such instance."""
        return self.describe()["NotebookInstanceStatus"]

    def stored_script(self) -> str | None:
        """Return the script that it runs at its start; None if there is no configuration."""
        try:
            return base64.b64decode(self.call_config("describe")["OnStart"][0]["Content"]).decode(errors="replace")
        except NotThere:
            return None

    def carries_out(self, run: Run) -> bool:
        """Whether the instance's script is that of ``run``."""
        return f"run_id={run.run_id}\n" in (self.stored_script() or "")

    def machine(self, run: Run) -> Machine:
        """Return the instance's state; for a run that it does not carry out, it counts as on its way to an end."""
        found = self.describe()
        word = found["NotebookInstanceStatus"]
        if word == "none":
            return NONE
        ours = self.carries_out(run)
        failure = (found.get("FailureReason") or "no reason given") if ours and word == "Failed" else ""
        return Machine(word, word not in AT_REST, not ours or word in ("Stopping", "Deleting"), failure)

    def need(self) -> int:
        """Return how many machines a run takes, which is what the quota counts."""
        return 1

    def check(self) -> str:
        """Check role, name and whether the instance is free."""
        self.account.role()
        word = self.status()
        if word not in (*AT_REST, "none"):
            wait = "wait until it has stopped, or mnist-lab cloud stop"
            raise CloudError(f"the instance {self.name} is {word}, for another run or for work by hand: {wait}")
        return f"{self.name}: {word}"

    def start(self, run: Run, script: str) -> None:
        """Make ``script`` the lifecycle configuration; then create the instance, or start it.

        Raises CloudError if there is an instance of another kind, and leaves its script as it is: whoever starts it
        from AWS's console would carry out what is stored.
        """
        wanted = {
            "InstanceType": self.settings.machine_type,
            "RoleArn": self.account.role(),
            "LifecycleConfigName": self.name,
            "VolumeSizeInGB": VOLUME_GB,
            "PlatformIdentifier": PLATFORM,
        }
        found = self.describe()
        new = found["NotebookInstanceStatus"] == "none"
        now = {**found, "LifecycleConfigName": found.get("NotebookInstanceLifecycleConfigName")}
        other = [name for name, value in wanted.items() if now.get(name) != value]
        if other and not new:  # without our script, nothing would stop it
            raise CloudError(f"the instance was made with another {', '.join(other)}: mnist-lab cloud down first")
        content = base64.b64encode(script.encode()).decode()
        self.call_config("create" if self.stored_script() is None else "update", OnStart=[{"Content": content}])
        if new:  # AWS starts it at once
            self.call(
                "create_notebook_instance",
                RootAccess="Disabled",  # the guard runs as root, so that no notebook can end it
                InstanceMetadataServiceConfiguration={"MinimumInstanceMetadataServiceVersion": "2"},
                Tags=TAGS,
                **wanted,
            )
        else:
            self.call("start_notebook_instance")

    def wait(self, waiter: str) -> None:
        """Wait until the instance is "stopped" (or has failed), "in_service" or "deleted". Raises CloudError."""
        try:
            self.account.wait("sagemaker", f"notebook_instance_{waiter}", NotebookInstanceName=self.name)
        except CloudError:
            found = self.describe()
            if found["NotebookInstanceStatus"] != "Failed":
                raise
            if waiter != "stopped":
                raise CloudError(explain_failure(found.get("FailureReason", ""))) from None

    def stop(self, run: Run | None = None) -> None:
        """Ask AWS to stop the instance until it accepts, since it refuses while the instance is Pending; then wait."""
        if run and not self.carries_out(run):
            return
        deadline = time.monotonic() + ASKING
        while (word := self.status()) not in (*AT_REST, "Stopping", "Deleting", "none"):
            try:
                self.call("stop_notebook_instance")
            except CloudError:
                if time.monotonic() > deadline or word == "InService" == self.status():
                    raise  # an instance in service could have been stopped
                time.sleep(self.settings.poll_seconds)
        if word == "Stopping":
            self.wait("stopped")

    def delete(self) -> None:
        """Stop and delete the instance, then its configuration and its logs."""
        self.stop()
        if (word := self.status()) in AT_REST:
            self.call("delete_notebook_instance")
        if word != "none":
            self.wait("deleted")
        if self.stored_script() is not None:
            self.call_config("delete")
        self.account.delete_logs(f"{self.name}/")

    def open_jupyter(self, run: Run) -> str:
        """Start the instance for work by hand if need be, and wait for it; return an address that signs one in.

        AWS lets it be used for five minutes. A run that is over is not repeated, and ``run`` says how long it may last.
        """
        if self.status() in (*AT_REST, "none"):
            self.start(run, self.script(run))
        self.wait("in_service")
        return self.call("create_presigned_notebook_instance_url")["AuthorizedUrl"]

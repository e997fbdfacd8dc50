"""AWS's edges, for tests: moto's server with the notebook instances that it lacks, and the machines behind them.

moto 5.2 knows no GPU types for notebook instances, no state between "asked" and "done", none of AWS's refusals, and
not the calls that update, sign addresses or list quotas. What is added here follows botocore's model and the errors
that AWS is known to give. A machine is a scratch root in which the instance's own script is carried out by bash.

States change by events, never by the clock: what a test finds does not depend on how fast its machine is.
"""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import botocore.session
from moto.core.responses import ActionResult, EmptyResult
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.sagemaker import models
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.responses import SageMakerResponse
from moto.servicequotas.responses import ServiceQuotasResponse

WHERE = ["--region", "us-east-1", "--bucket", "lab-bucket", "--role", "lab", "--poll-seconds", "0.05"]  # of every verb
MODEL = botocore.session.get_session().get_service_model("sagemaker")
CREATE = MODEL.operation_model("CreateNotebookInstance").input_shape.members
TYPES = CREATE["InstanceType"].metadata["enum"]
PLATFORM = re.compile(CREATE["PlatformIdentifier"].metadata["pattern"])
NAME = re.compile(CREATE["NotebookInstanceName"].metadata["pattern"])


class ResourceLimitExceeded(AWSValidationException):
    """A quota is used up."""

    code = "ResourceLimitExceeded"


class World:
    """What a test may set, and what it may look at."""

    def __init__(self):
        self.pending_stops = 0.0  # after its start, an instance is Pending until so many stops were refused
        self.quota = 1
        self.capacity = True
        self.on_boot: Callable[[str, bytes], int] = lambda name, script: 0  # returns the script's exit code
        self.on_halt: Callable[[str], None] = lambda name: None
        self.boots: list[str] = []  # names of instances, in the order of their starts
        self.refused_stops = 0


WORLD = World()


class NotebookInstance(models.FakeSagemakerNotebookInstance):
    """moto's instance, with states that take their time and AWS's refusals.

    Pending lasts until the start script has ended, Stopping until the machine has halted, Updating for one look.
    """

    __module__ = models.__name__  # moto sorts its classes by it

    def validate_instance_type(self, instance_type: str) -> None:
        if instance_type not in TYPES:
            raise AWSValidationException(f"Value '{instance_type}' at 'instanceType' failed to satisfy constraint")

    @property
    def status(self) -> str:
        seen = self._state
        if seen == "Pending" and self._hook_done.is_set() and self._refused >= WORLD.pending_stops:
            seen = self._state = "Failed" if self.failure else "InService"
        elif seen == "Stopping" and self._halted.is_set():
            seen = self._state = "Stopped"
        elif seen == "Updating":
            self._state = "Stopped"
        return seen

    @status.setter
    def status(self, value: str) -> None:
        pass  # moto sets it as if nothing took time

    def refuse(self, allowed: str, target: str) -> None:
        raise AWSValidationException(
            f"Status ({self.status}) not in ([{allowed}]). Unable to transition to ({target}) for Notebook Instance "
            f"({self.arn})"
        )

    def start(self) -> None:
        if getattr(self, "_state", None) and self.status not in ("Stopped", "Failed"):
            self.refuse("Stopped, Failed", "Pending")
        if not WORLD.quota:
            raise ResourceLimitExceeded(
                f"The account-level service limit '{self.instance_type} for notebook instance usage' is 0 Instances, "
                "with current utilization of 0 Instances and a request delta of 1 Instances."
            )
        self.failure = "" if WORLD.capacity else "InsufficientInstanceCapacity: no capacity for this instance type"
        self._state, self._refused, self._hook_done = "Pending", 0, threading.Event()
        threading.Thread(target=self.boot, daemon=True).start()

    def boot(self) -> None:
        """Carry out the script as it is stored now; its exit code decides. Nothing, if the test is over meanwhile."""
        boots = WORLD.boots
        while self.backend.notebook_instances.get(self.notebook_instance_name) is not self:
            if WORLD.boots is not boots:
                return
            time.sleep(0.01)  # created, and not yet listed
        try:
            found = self.backend.notebook_instance_lifecycle_configurations.get(self.lifecycle_config_name)
            if WORLD.capacity and found:
                WORLD.boots.append(self.notebook_instance_name)
                script = base64.b64decode(found.on_start[0]["Content"], validate=True)
                code = WORLD.on_boot(self.notebook_instance_name, script)
                self.failure = f"Notebook Instance Lifecycle Config failed with exit code {code}" if code else ""
        finally:
            self._hook_done.set()

    @property
    def backend(self):
        return models.sagemaker_backends[ACCOUNT][self.region_name]

    def stop(self) -> None:
        if self.status != "InService":
            self._refused += 1
            WORLD.refused_stops += 1
            self.refuse("InService", "Stopping")
        self._state, self._halted = "Stopping", threading.Event()
        threading.Thread(target=self.halt, daemon=True).start()

    def halt(self) -> None:
        WORLD.on_halt(self.notebook_instance_name)
        self._halted.set()

    def to_dict(self) -> dict:
        more = {"FailureReason": self.failure} if self.status == "Failed" else {}
        return {**super().to_dict(), **getattr(self, "extra", {}), **more, "NotebookInstanceStatus": self.status}


ACCOUNT = "123456789012"
create_instance = SageMakerResponse.create_notebook_instance
create_script = SageMakerResponse.create_notebook_instance_lifecycle_config


def check_script(response: SageMakerResponse) -> None:
    """Refuse what AWS's model refuses."""
    for hook in ("OnStart", "OnCreate"):
        for entry in response._get_param(hook) or []:
            content = entry["Content"]
            if not 1 <= len(content) <= 16384:
                raise AWSValidationException("Value at 'onStart.1.member.content' failed: length must be <= 16384")
            base64.b64decode(content, validate=True)


def checked_create_instance(response: SageMakerResponse):
    platform = response._get_param("PlatformIdentifier") or "notebook-al2023-v1"
    if not PLATFORM.fullmatch(platform) or not NAME.fullmatch(response._get_param("NotebookInstanceName")):
        raise AWSValidationException("1 validation error detected: pattern")
    created = create_instance(response)
    name = response._get_param("NotebookInstanceName")
    response.sagemaker_backend.notebook_instances[name].extra = {
        "PlatformIdentifier": platform,
        "InstanceMetadataServiceConfiguration": response._get_param("InstanceMetadataServiceConfiguration"),
    }
    return created


def checked_create_script(response: SageMakerResponse):
    check_script(response)
    return create_script(response)


def update_script(response: SageMakerResponse):
    check_script(response)
    name = response._get_param("NotebookInstanceLifecycleConfigName")
    response.sagemaker_backend.describe_notebook_instance_lifecycle_config(name)  # or AWS's error
    found = response.sagemaker_backend.notebook_instance_lifecycle_configurations[name]
    found.on_start = response._get_param("OnStart")
    return EmptyResult()


def update_instance(response: SageMakerResponse):
    found = response.sagemaker_backend.get_notebook_instance(response._get_param("NotebookInstanceName"))
    if found.status not in ("Stopped", "Failed"):
        found.refuse("Stopped", "Updating")
    for name, attribute in [
        ("InstanceType", "instance_type"), ("RoleArn", "role_arn"), ("VolumeSizeInGB", "volume_size_in_gb"),
        ("LifecycleConfigName", "lifecycle_config_name"),
    ]:  # fmt: skip
        if response._get_param(name):
            setattr(found, attribute, response._get_param(name))
    if response._get_param("PlatformIdentifier"):
        found.extra["PlatformIdentifier"] = response._get_param("PlatformIdentifier")
    if response._get_param("DisassociateLifecycleConfig"):
        found.lifecycle_config_name = None
    found._state = "Updating"
    return EmptyResult()


def sign_address(response: SageMakerResponse):
    found = response.sagemaker_backend.get_notebook_instance(response._get_param("NotebookInstanceName"))
    if found.status != "InService":
        found.refuse("InService", "InService")
    return ActionResult({"AuthorizedUrl": f"https://{found.url}?authToken=secret"})


def list_quotas(response: ServiceQuotasResponse) -> str:
    quota = {"QuotaName": "ml.g4dn.xlarge for notebook instance usage", "Value": float(WORLD.quota)}
    return json.dumps({"Quotas": [quota]})


models.FakeSagemakerNotebookInstance = NotebookInstance
SageMakerResponse.create_notebook_instance = checked_create_instance
SageMakerResponse.create_notebook_instance_lifecycle_config = checked_create_script
SageMakerResponse.update_notebook_instance_lifecycle_config = update_script
SageMakerResponse.update_notebook_instance = update_instance
SageMakerResponse.create_presigned_notebook_instance_url = sign_address
ServiceQuotasResponse.list_service_quotas = list_quotas


class Emulator:
    """moto's server on a port of this machine alone, and the aws command that talks to it."""

    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        self.variables = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        self.folder = tempfile.TemporaryDirectory(prefix="aws-")
        self.socket = f"{self.folder.name}/socket"
        self.aws = subprocess.Popen(
            [sys.executable, COMMAND, "serve", self.socket],
            env={**os.environ, **self.variables},
            stdin=subprocess.PIPE,
        )

    def reset(self) -> World:
        """Forget everything; return what a test may set."""
        import urllib.request

        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()
        WORLD.__init__()
        return WORLD

    def stop(self) -> None:
        self.aws.stdin.close()
        self.aws.wait()
        self.folder.cleanup()
        self.server.stop()


NO_GPU = """import importlib.machinery, sys

class Stub:
    \"\"\"The stubbed CUDA check: "cuda" is the CPU here, for mnist_lab.runtime.pick_device and nothing else.\"\"\"

    def find_spec(name, path=None, target=None):
        if name != "mnist_lab.runtime":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        carry_out = spec.loader.exec_module

        def exec_module(module):
            carry_out(module)
            module.pick_device = lambda name="auto": module.torch.device("cpu")

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Stub)
"""

# The instance's preinstalled environment: the tests' interpreter. A venv made of it sees what it sees, but for one
# package: nbformat imports rfc3987_syntax where jupyter has brought it, as on no instance, and that takes two seconds.
PYTHON = """#!/bin/bash
if [[ "{told}" && "$2" == *"import platform, torch"* ]]; then
    echo "{told}" # what torch would say, without the seconds that it takes
    exit
fi
export PYTHONPATH=$PYTHONPATH:{stub}
"{python}" "$@" || exit
if [[ "$1 $2" == "-m venv" ]]; then
    without="import sys; sys.modules['rfc3987_syntax'] = None"
    printf '%s\\n' "{site}" "$without" {stub_lines} >"$(echo "${{@: -1}}"/lib/python3*/site-packages)/zz-instance.pth"
fi
"""

# S3 can be made to fail: what is uploaded while the file "offline" is there does not arrive. And no call goes on while
# the file "frozen" is there.
AWS = """#!/bin/bash
if [[ -e "{root}/offline" && "$*" == "s3 cp"*" s3://"* ]]; then
    echo "upload failed: Connection was closed" >&2
    exit 1
fi
while [[ -e "{root}/frozen" ]]; do sleep 0.1; done
exec "{python}" -S -E "{command}" "{socket}" "$@"
"""
COMMAND = Path(__file__).with_name("aws_command.py")


PATIENCE = 600  # seconds that anything may take: long enough for any machine, and nobody waits for it in vain


def wait_for(condition: Callable[[], object], what: str, more: Callable[[], str] = str) -> object:
    """Return what ``condition`` comes to, once it is true; ``more`` tells why it is not."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come: {more()}"
        time.sleep(0.05)
    return found


class Machine:
    """What runs behind a notebook instance: a scratch root in which its start script is carried out by bash."""

    def __init__(
        self, root: Path, emulator: Emulator, name: str = "mnist-lab", stub_cuda: bool = False, told: str = ""
    ):
        self.root, self.home = root, root / "home" / "ec2-user"
        self.work, self.control = self.home / "SageMaker" / "mnist-lab", root / "var" / "lib" / "mnist-lab"
        self.said = ""  # by the last start script
        (self.home / "SageMaker").mkdir(parents=True)
        self.write("opt/ml/metadata/resource-metadata.json", json.dumps({"ResourceArn": "arn", "ResourceName": name}))
        self.write("stub/sitecustomize.py", NO_GPU if stub_cuda else "")
        self.stub_cuda, self.told = stub_cuda, told
        self.install_python(sysconfig.get_path("purelib"))
        wait_for(lambda: Path(emulator.socket).exists(), "the aws command")
        aws = AWS.format(root=root, python=sys.executable, command=COMMAND, socket=emulator.socket)
        self.write("bin/aws", aws, 0o755)
        self.environment = {
            **emulator.variables,
            "PATH": f"{root}/bin:/usr/bin:/bin",
            "HOME": "/root",
            "MNIST_LAB_ROOT": str(root),
            "MNIST_LAB_USER": os.environ.get("USER") or subprocess.check_output(["id", "-un"], text=True).strip(),
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_RETRIES": "0",
            "OMP_NUM_THREADS": "1",
        }

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def install_python(self, site: str) -> None:
        """Make the preinstalled environment; environments made of it find the packages in ``site``."""
        lines = f'"{self.root}/stub" "import sitecustomize"' if self.stub_cuda else ""
        text = PYTHON.format(
            told=self.told, python=sys.executable, site=site, stub=f"{self.root}/stub", stub_lines=lines
        )
        self.write("home/ec2-user/anaconda3/envs/pytorch/bin/python", text, 0o755)

    def boot(self, name: str, script: bytes) -> int:
        """Do as SageMaker does: write the script, execute it by its first line in /, wait until its output closes."""
        path = self.root / "tmp" / f"OnStart_{time.time_ns()}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(script)
        path.chmod(0o755)
        try:
            done = subprocess.run(
                [path], cwd="/", env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
            )  # fmt: skip
        except OSError as error:  # no such interpreter
            self.said = str(error)
            return 127
        except subprocess.TimeoutExpired:
            return 124
        self.said = done.stdout
        return done.returncode

    def halt(self, name: str = "") -> None:
        """End everything that runs on the machine, as a stop does; only the EBS volume stays as it is."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Return what runs on the machine: processes that carry its root in their environment. (A zombie has none.)"""
        mark = f"MNIST_LAB_ROOT={self.root}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def commands(self) -> dict[int, list[str]]:
        """Return what runs on the machine: process id -> command line."""
        found = {}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        return found

    def scripts(self) -> set[str]:
        """Return which of "worker.sh" and "watchdog.sh" run."""
        names = {Path(word).name for words in self.commands().values() for word in words}
        return names & {"worker.sh", "watchdog.sh"}

    def worker(self) -> int:
        """Return the worker's process id: its shell leads a session, and what it starts is in it."""
        (found,) = (
            pid
            for pid, words in self.commands().items()
            if words[-1:] == [f"{self.control}/worker.sh"] and os.getsid(pid) == pid
        )
        return found

    def cap(self) -> tuple[int, float] | None:
        """Return the process that the watchdog waits for, and how many seconds that lasts; None if there is none.

        Its end is the end of the watchdog's patience: a test ends it in place of the clock.
        """
        for pid, words in self.commands().items():
            with contextlib.suppress(OSError):
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                command = Path(f"/proc/{parent}/cmdline").read_text()
                if words[0] == "sleep" and f"{self.control}/watchdog.sh" in command:
                    return pid, float(words[1])
        return None

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.work.glob("logs/*.txt")))

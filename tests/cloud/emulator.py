"""AWS's edges, for tests: moto's server with what it lacks, and the machines behind its three doors.

moto 5.2 has no machines, no state between "asked" and "done", few of AWS's refusals, and not all of the calls. What is
added here follows botocore's model and the errors that AWS is known to give. A machine is a scratch root in which the
lifecycle configuration, the user data or the container's entry point is carried out by bash.

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

import boto3
import botocore.session
from moto.core import errors
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import instances as ec2
from moto.ec2.responses.instances import InstanceResponse as EC2Response
from moto.iam.responses import IamResponse
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.sagemaker import models
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.responses import SageMakerResponse
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.ssm.models import SimpleSystemManagerBackend

WHERE = ["--region", "us-east-1", "--bucket", "lab-bucket", "--role", "lab", "--poll-seconds", "0.05"]  # of every verb
ACCOUNT = "123456789012"
TRUST = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
    "Principal": {"Service": ["sagemaker.amazonaws.com", "ec2.amazonaws.com"]}}]}"""
OF_THE_SDK = [f"ignore::{kind}" for kind in (
    "DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning"
)]  # fmt: skip
MODEL = botocore.session.get_session().get_service_model("sagemaker")
CREATE = MODEL.operation_model("CreateNotebookInstance").input_shape.members
TYPES = CREATE["InstanceType"].metadata["enum"]
PLATFORM = re.compile(CREATE["PlatformIdentifier"].metadata["pattern"])
NAME = re.compile(CREATE["NotebookInstanceName"].metadata["pattern"])


class ResourceLimitExceeded(AWSValidationException):
    """A quota is used up."""

    code = "ResourceLimitExceeded"


class AccessDenied(ServiceException):
    """The caller may not do this."""

    code = "AccessDenied"


class World:
    """What a test may set, and what it may look at."""

    def __init__(self):
        self.pending_stops = 0.0  # after its start, an instance is Pending until so many stops were refused
        self.quota = 1
        self.capacity = True
        self.on_boot: Callable[[str, bytes], int] = lambda name, script: 0  # returns the script's exit code
        self.on_container: Callable[[object], int | None] = lambda job: None  # its exit code; None: it goes on
        self.on_halt: Callable[[str], None] = lambda name: None
        self.boots: list[str] = []  # names of machines, in the order of their starts
        self.refused_stops = 0
        self.may_stop: Callable[[str], bool] = lambda agent: True  # who asks, by the User-Agent

    def check_stop(self, response) -> None:
        """Refuse who may not stop machines."""
        if not self.may_stop(response.headers["User-Agent"]):
            self.refused_stops += 1
            raise AccessDenied("User is not authorized to perform this action")


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


class TrainingJob(models.FakeTrainingJob):
    """moto's job, with a container that takes its time, a stop, and AWS's own end at MaxRuntimeInSeconds."""

    __module__ = models.__name__

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._state, self._reason = "InProgress", ""
        WORLD.boots.append(self.training_job_name)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        code = WORLD.on_container(self)
        if code is not None and self._state == "InProgress":
            self._state = "Failed" if code else "Completed"

    def end(self, state: str = "Stopped") -> None:
        """Stop it, as AWS also does when its time is over."""
        self._state = "Stopping"
        WORLD.on_halt(self.training_job_name)
        self._state = state

    @property
    def training_job_status(self) -> str:
        return self._state

    @training_job_status.setter
    def training_job_status(self, value: str) -> None:
        pass  # moto sets it as if nothing took time

    @property
    def response_object(self) -> dict:
        more = {"FailureReason": self._reason} if self._state == "Failed" else {}
        return super().response_object | {"TrainingJobStatus": self._state} | more


def find_job(response: SageMakerResponse) -> TrainingJob:
    name = response._get_param("TrainingJobName")
    response.sagemaker_backend.describe_training_job(name)  # or AWS's error
    return response.sagemaker_backend.training_jobs[name]


def stop_job(response: SageMakerResponse):
    WORLD.check_stop(response)
    threading.Thread(target=find_job(response).end, daemon=True).start()
    return EmptyResult()


def delete_job(response: SageMakerResponse):
    found = find_job(response)
    if found.training_job_status in ("InProgress", "Stopping"):
        raise AWSValidationException("The request was rejected because the training job is in progress")
    del response.sagemaker_backend.training_jobs[found.training_job_name]
    return EmptyResult()


run_instances, terminate = ec2.InstanceBackend.run_instances, ec2.Instance.terminate


def run_and_boot(backend, *arguments, **more):
    """Start an instance; its user data is carried out as cloud-init does."""
    if not WORLD.quota:
        raise type("VcpuLimitExceeded", (ServiceException,), {"code": "VcpuLimitExceeded"})("You have requested more")
    made = run_instances(backend, *arguments, **more)
    for one in made.instances:
        WORLD.boots.append(one.id)
        threading.Thread(target=WORLD.on_boot, args=(one, user_data_of(one)), daemon=True).start()
    return made


def user_data_of(instance) -> bytes:
    return instance.user_data.decode().encode()


def end_instance(instance, reason: str = "Client.UserInitiatedShutdown"):
    WORLD.on_halt(instance.id)
    before = terminate(instance)
    instance.state_reason = ec2.StateReason(reason, reason)
    return before


def power_off(instance) -> None:
    """End the instance as its own shut-down does."""
    if instance.instance_initiated_shutdown_behavior == "terminate":
        end_instance(instance, "Client.InstanceInitiatedShutdown")
    else:
        WORLD.on_halt(instance.id)
        instance.stop()


class Parameter:
    """A public parameter of AWS."""

    def __init__(self, name: str):
        self.name, self.value = (
            f"/aws/service/deeplearning/ami/x86_64/{name}/latest/ami-id",
            f"ami-{abs(hash(name)):08x}"[:12],
        )

    def response_object(self, *_) -> dict:
        return {"Name": self.name, "Value": self.value, "Type": "String"}


IMAGES = [
    Parameter(f"oss-nvidia-driver-gpu-pytorch-{version}")
    for version in ("2.9-amazon-linux-2023", "2.13-amazon-linux-2023", "2.14-ubuntu-24.04", "2.10-amazon-linux-2023")
]


def list_images(backend, path, *_, next_token=None, **more):
    """Two pages of public parameters."""
    return (IMAGES[2:], None) if next_token else (IMAGES[:2], "2")


def list_quotas(response: ServiceQuotasResponse) -> str:
    names = [
        "ml.g4dn.xlarge for notebook instance usage", "ml.g4dn.xlarge for training job usage",
        "Running On-Demand G and VT instances", "Running On-Demand P instances",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    ]  # fmt: skip
    return json.dumps({"Quotas": [{"QuotaName": name, "Value": 4.0 * WORLD.quota} for name in names]})


def simulate(response: IamResponse):
    raise AccessDenied("not authorized to perform: iam:SimulatePrincipalPolicy")


def stop_instance(response: SageMakerResponse):
    WORLD.check_stop(response)
    return stop_notebook(response)


def terminate_instances(response):
    WORLD.check_stop(response)
    return terminate_all(response)


stop_notebook, terminate_all = SageMakerResponse.stop_notebook_instance, EC2Response.terminate_instances
errors.warn = lambda *_, **__: None  # of AWS's general errors, which the models of its services do not list
models.FakeTrainingJob = TrainingJob
SageMakerResponse.stop_notebook_instance = stop_instance
SageMakerResponse.stop_training_job = stop_job
SageMakerResponse.delete_training_job = delete_job
IamResponse.simulate_principal_policy = simulate
ec2.InstanceBackend.run_instances = run_and_boot
ec2.Instance.terminate = end_instance
EC2Response.terminate_instances = terminate_instances
SimpleSystemManagerBackend.get_parameters_by_path = list_images
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
        urllib.request.urlopen(request, timeout=PATIENCE).close()
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

# The image's Python: the tests' interpreter, which is in a venv, as on EC2. What is made of it sees what it sees, but
# for one package: nbformat imports rfc3987_syntax where jupyter has brought it, as on no instance, which takes seconds.
PYTHON = """#!/bin/bash
if [[ "{told}" && "$2" == *"import platform, torch"* ]]; then
    echo "{told}" # what torch would say, without the seconds that it takes
    exit
fi
if [[ "$2" == *purelib* ]]; then
    echo "{site}"
    exit
fi
export PYTHONPATH=$PYTHONPATH:{stub}
"{python}" "$@" || exit
if [[ "$1 $2" == "-m venv" ]]; then
    without="import sys; sys.modules['rfc3987_syntax'] = None"
    printf '%s\\n' "$without" {stub_lines} >"$(echo "${{@: -1}}"/lib/python3*/site-packages)/zz-instance.pth"
fi
"""

# The network can be made to fail: what is uploaded while the file "offline" is there does not arrive, no call arrives
# while "unplugged" is there, and no call goes on while "frozen" is there. With "chatty", aws warns on stderr, as its
# version 1 does on an old Python.
AWS = """#!/bin/bash
while [[ -e "{root}/frozen" ]]; do sleep 0.1; done
if [[ -e "{root}/unplugged" || -e "{root}/offline" && "$*" == "s3 cp"*" s3://"* ]]; then
    echo "Could not connect to the endpoint URL" >&2
    exit 255
fi
[[ ! -e "{root}/chatty" ]] || echo "DeprecationWarning: this version of Python is old" >&2
[[ -v AWS_PAGER && -z $AWS_PAGER ]] || exec sleep 3600 # version 2 would wait in a pager
exec "{python}" -S -E "{command}" "{socket}" "$@"
"""
SHUTDOWN = """#!/bin/bash
echo "$*" >>"{root}/shutdown"
[[ $* != *now* ]] || touch "{root}/off"
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
    """What runs behind a door: a scratch root in which bash carries out what AWS was given."""

    def __init__(
        self, root: Path, emulator: Emulator, name: str = "mnist-lab", stub_cuda: bool = False, told: str = ""
    ):
        self.root, self.home, self.control = root, root / "home" / "ec2-user", root / "var" / "lib" / "mnist-lab"
        self.said = ""  # by the last start script or container
        self.instance, self.off = None, root / "off"  # of EC2
        (self.home / "SageMaker").mkdir(parents=True)
        (root / "tmp").mkdir()
        self.write("opt/ml/metadata/resource-metadata.json", json.dumps({"ResourceArn": "arn", "ResourceName": name}))
        self.write("stub/sitecustomize.py", NO_GPU if stub_cuda else "")
        self.stub_cuda, self.told = stub_cuda, told
        self.install_python(sysconfig.get_path("purelib"))
        wait_for(lambda: Path(emulator.socket).exists(), "the aws command")
        aws = AWS.format(root=root, python=sys.executable, command=COMMAND, socket=emulator.socket)
        for command, text in ("aws", aws), ("shutdown", SHUTDOWN.format(root=root)), ("pip3", "#!/bin/bash\n"):
            self.write(f"bin/{command}", text, 0o755)
        self.environment = {
            **emulator.variables,
            "PATH": f"{root}/bin:/usr/bin:/bin",
            "HOME": "/root",
            "TMPDIR": str(root / "tmp"),
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
        for path in "home/ec2-user/anaconda3/envs/pytorch/bin/python", "opt/pytorch/bin/python", "bin/python3":
            self.write(path, text, 0o755)

    def pythons(self) -> list[Path]:
        return [*self.root.glob("home/*/anaconda3/envs/*/bin/python"), *self.root.glob("opt/pytorch/bin/python")]

    @property
    def places(self) -> list[Path]:
        """Where workers work, by door."""
        return [self.home / "SageMaker" / "mnist-lab", self.home / "mnist-lab", self.root / "opt" / "ml" / "mnist-lab"]

    @property
    def work(self) -> Path:
        """Where the worker of a notebook instance works."""
        return self.places[0]

    def serve(self, world: World) -> None:
        """Be the machine behind whatever is started next."""
        world.on_boot, world.on_container, world.on_halt = self.boot, self.contain, self.halt

    def boot(self, instance: object, script: bytes) -> int:
        """Do as AWS does: write the script, execute it by its first line in /, wait until its output closes.

        ``instance`` is the name of a notebook instance, or one of EC2, which ends when it is shut down.
        """
        path = self.root / "tmp" / f"OnStart_{time.time_ns()}"
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
        if not isinstance(instance, str):
            self.instance, boots = instance, WORLD.boots
            while instance.state == "running" and WORLD.boots is boots:
                if self.off.exists():
                    power_off(instance)
                time.sleep(0.02)
        return done.returncode

    def contain(self, job: TrainingJob) -> int:
        """Do as a training job does: fetch the channels, carry out the entry point, and say why it failed.

        The SDK's scripts know only /opt/ml; here it is below the machine's root.
        """
        s3, ml = boto3.client("s3", region_name="us-east-1"), f"{self.root}/opt/ml"
        for channel in job.input_data_config:
            _, _, bucket, prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].split("/", 3)
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page["Contents"]:
                    content = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    name = f"opt/ml/input/data/{channel['ChannelName']}{entry['Key'].removeprefix(prefix)}"
                    if channel["ChannelName"] == "sm_drivers" and not name.endswith(".pyc"):
                        content = content.replace(b"/opt/ml", ml.encode())
                    if not name.endswith(".pyc"):
                        self.write(name, content.decode())
        channels = {channel["ChannelName"]: {} for channel in job.input_data_config}
        machine = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0",
                   "current_instance_type": "ml.g4dn.xlarge"}  # fmt: skip
        for name, values in (
            ("hyperparameters", job.hyper_parameters),
            ("resourceconfig", machine),
            ("inputdataconfig", channels),
        ):
            self.write(f"opt/ml/input/config/{name}.json", json.dumps(values))
        failure = self.write("opt/ml/output/failure", "")
        entry = job.algorithm_specification["ContainerEntrypoint"] + job.algorithm_specification["ContainerArguments"]
        done = subprocess.run(
            [word.replace("/opt/ml", ml) for word in entry], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            env={**self.environment, "TRAINING_JOB_NAME": job.training_job_name}, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said, job._reason = done.stdout, failure.read_text()
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

    def tasks(self) -> set[str]:
        """Return which of our scripts run: "worker", its "guard", and the "cap"."""
        words = [line[-2:] for line in self.commands().values() if line[:1] == ["bash"]]
        names = {"guard" if line[-1] == "worker" else line[-1] for line in words if line[0].endswith("guard.sh")}
        return names | {"worker" for line in words if line[-1].endswith("/worker.sh")}

    def worker(self) -> int | None:
        """Return the worker's process id: of its shells the one that does not come from another one."""
        shells = [pid for pid, words in self.commands().items() if words[-1:] and words[-1].endswith("/worker.sh")]
        return next((pid for pid in shells if parent_of(pid) not in shells), None)

    def guard(self) -> int | None:
        """Return the process id of the guard that waits for the worker."""
        found = [pid for pid, words in self.commands().items() if words[-2:] == [f"{self.control}/guard.sh", "worker"]]
        return found[0] if found else None

    def cap(self) -> tuple[int, float] | None:
        """Return the process that the cap waits for, and how many seconds that lasts; None if there is none.

        Its end is the end of the cap's patience: a test ends it in place of the clock.
        """
        for pid, words in self.commands().items():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{parent_of(pid)}/cmdline").read_text().split("\0")[:-1]
                if words[0] == "sleep" and command[-1] == "cap":
                    return pid, float(words[1])
        return None

    def log(self) -> str:
        logs = [path for place in self.places for path in sorted(place.glob("logs/*.txt"))]
        return "".join(path.read_text() for path in logs) + self.said


def parent_of(pid: int) -> int:
    """Return a process's parent; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0

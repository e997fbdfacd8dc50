"""An EC2 instance of a Deep Learning image for each run: no key pair, no open port, and its shut-down ends it."""

import re
from math import ceil

from mnist_lab.cloud.account import TAGS, Account
from mnist_lab.cloud.errors import CloudError, Denied, NotThere
from mnist_lab.cloud.runs import NONE, Machine, Run, render

LARGEST = 16_384  # bytes of user data
IMAGES = "/aws/service/deeplearning/ami/x86_64"  # public parameters of AWS's Deep Learning images
IMAGE = re.compile(rf"{IMAGES}/oss-nvidia-driver-gpu-pytorch-(\d+)\.(\d+)-amazon-linux-2023/latest/ami-id")
STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
QUOTAS = {"g": "G and VT", "gr": "G and VT", "vt": "G and VT", "p": "P"}  # by family; the others count as STANDARD
ENDED = ("terminated", "stopped")
USUAL_ENDS = ("Client.InstanceInitiatedShutdown", "Client.UserInitiatedShutdown", "")


class Ec2:
    """Instances with the tags mnist-lab=NAME and mnist-lab-run=RUN."""

    def __init__(self, account: Account):
        self.account, self.settings = account, account.settings
        family = re.match("[a-z]*", self.settings.machine_type)[0]
        self.quota = f"Running On-Demand {QUOTAS.get(family, STANDARD)} instances"
        self.tag = {"Key": "mnist-lab", "Value": self.settings.name}

    def script(self, run: Run) -> str:
        """Return the user data. Its first line has the system itself shut down when the run's time is over."""
        return render(run, "host.sh", LARGEST, "ec2.sh", f"shutdown -h +{ceil(run.seconds / 60)} || shutdown -h now\n")

    def check(self) -> str:
        """Check the role, and whether it has an instance profile."""
        self.profile()
        return f"{sum(one['State']['Name'] not in ENDED for one in self.instances())} instances"

    def need(self) -> int:
        """Return how many virtual CPUs the instance has, which is what the quota counts."""
        kind = self.settings.machine_type
        (found,) = self.account.call("ec2", "describe_instance_types", InstanceTypes=[kind])["InstanceTypes"]
        return found["VCpuInfo"]["DefaultVCpus"]

    def profile(self) -> str:
        """Return the name of the role's instance profile, through which EC2 hands it to a machine."""
        name = self.account.role().rpartition("/")[2]
        try:
            self.account.call("iam", "get_instance_profile", InstanceProfileName=name)
        except Denied:  # callers who may pass a role need not be allowed to read it
            pass
        except NotThere:
            named = f"--instance-profile-name {name}"
            raise CloudError(
                f"the role {name} has no instance profile: aws iam create-instance-profile {named}, and then "
                f"aws iam add-role-to-instance-profile {named} --role-name {name}"
            ) from None
        return name

    def image(self) -> str:
        """Return the image that was named, else the newest Deep Learning image with PyTorch."""
        if self.settings.image:
            return self.settings.image
        listed = self.account.pages("ssm", "get_parameters_by_path", "Parameters", Path=IMAGES, Recursive=True)
        named = [(IMAGE.fullmatch(one["Name"]), one["Value"]) for one in listed]
        if not (found := {(int(name[1]), int(name[2])): value for name, value in named if name}):
            raise CloudError(f"{self.account.region} lists no Deep Learning image with PyTorch: give --image ami-...")
        return found[max(found)]

    def groups(self) -> list[dict]:
        """Return the security groups that were made here."""
        mark = [{"Name": f"tag:{self.tag['Key']}", "Values": [self.tag["Value"]]}]
        return list(self.account.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=mark))

    def group(self) -> str:
        """Return our own security group, which lets nothing in; it is made if need be."""
        for found in self.groups():
            if found.get("IpPermissions"):
                raise CloudError(f"somebody has opened {found['GroupId']}, mnist-lab's own security group: delete it")
            return found["GroupId"]
        tags = [{"ResourceType": "security-group", "Tags": [self.tag, *TAGS]}]
        named = {"GroupName": self.settings.name, "Description": "lets nothing in", "TagSpecifications": tags}
        return self.account.call("ec2", "create_security_group", **named)["GroupId"]

    def start(self, run: Run, script: str) -> None:
        """Start an instance; twice for the same run is once."""
        tags = [self.tag, {"Key": "mnist-lab-run", "Value": run.run_id}, {"Key": "Name", "Value": self.settings.name}]
        made = self.account.call(
            "ec2",
            "run_instances",
            ImageId=self.image(),
            InstanceType=self.settings.machine_type,
            MinCount=1,
            MaxCount=1,
            ClientToken=run.run_id,
            UserData=script,
            IamInstanceProfile={"Name": self.profile()},
            SecurityGroupIds=[self.group()],
            InstanceInitiatedShutdownBehavior="terminate",
            MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
            TagSpecifications=[{"ResourceType": kind, "Tags": [*tags, *TAGS]} for kind in ("instance", "volume")],
        )
        self.account.wait("ec2", "instance_exists", InstanceIds=[made["Instances"][0]["InstanceId"]])

    def instances(self, run: Run | None = None) -> list[dict]:
        """Return the instances of this name, or of one run, as AWS describes them."""
        wanted = {self.tag["Key"]: self.settings.name, **({"mnist-lab-run": run.run_id} if run else {})}
        marks = [{"Name": f"tag:{key}", "Values": [value]} for key, value in wanted.items()]
        listed = self.account.pages("ec2", "describe_instances", "Reservations", Filters=marks)
        return [one for reservation in listed for one in reservation["Instances"]]

    def machine(self, run: Run) -> Machine:
        """Return the instance's state."""
        for found in self.instances(run):
            word, why = found["State"]["Name"], found.get("StateReason", {})
            failed = word in ENDED and why.get("Code", "") not in USUAL_ENDS
            stopping = word in ("shutting-down", "stopping")
            return Machine(word, word not in ENDED, stopping, why.get("Message", "") if failed else "")
        return NONE

    def stop(self, run: Run | None = None) -> None:
        """Terminate the run's instance, or all of this name, and wait: nothing of them is left, or billed."""
        there = [one["InstanceId"] for one in self.instances(run) if one["State"]["Name"] != "terminated"]
        if there:
            self.account.call("ec2", "terminate_instances", InstanceIds=there)
            self.account.wait("ec2", "instance_terminated", InstanceIds=there)

    def delete(self) -> None:
        """Terminate all instances of this name, and delete the security group."""
        self.stop()
        for group in self.groups():
            self.account.call("ec2", "delete_security_group", GroupId=group["GroupId"])

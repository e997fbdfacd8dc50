import os
import sys
from pathlib import Path

import boto3
import pytest
from emulator import OF_THE_SDK
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from trial import OUTPUTS, Trial

from mnist_lab.cloud import job as jobs
from mnist_lab.cloud.ec2 import Ec2
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.job import TrainingJob
from mnist_lab.cloud.runs import NONE, Run, make_run

DOCKER = Path(__file__).with_name("docker_command.py")


def start(door) -> Run:
    run = make_run(door.account, b"", {})
    door.account.make_bucket()
    door.start(run, door.script(run))
    return run


@pytest.mark.filterwarnings(*OF_THE_SDK)
class TestJob:
    def described(self) -> dict:
        client = boto3.client("sagemaker", region_name="us-east-1")
        (job,) = client.list_training_jobs()["TrainingJobSummaries"]
        return client.describe_training_job(TrainingJobName=job["TrainingJobName"])

    def test_it_is_made_through_the_sdk_as_documented(self, connect):
        door = TrainingJob(connect(door="job", spot=True))
        run = start(door)
        job = self.described()
        assert job["TrainingJobName"].startswith(f"mnist-lab-{run.run_id}-") and len(job["TrainingJobName"]) <= 63
        assert job["RoleArn"] == "arn:aws:iam::123456789012:role/lab"
        image = job["AlgorithmSpecification"]["TrainingImage"]
        assert image.startswith("763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.10") and "gpu" in image
        assert (job["ResourceConfig"]["InstanceType"], job["ResourceConfig"]["InstanceCount"]) == ("ml.g4dn.xlarge", 1)
        assert job["EnableManagedSpotTraining"]
        assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 4200, "MaxWaitTimeInSeconds": 8400}
        assert "run --step 3" in job["HyperParameters"]["command"]
        sources = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in job["InputDataConfig"]]
        written = "s3://lab-bucket/mnist-lab/job/jobs/output/"  # by the role, which must not change what is carried out
        assert all(one.startswith("s3://lab-bucket/mnist-lab/job/jobs/") for one in sources)
        assert not any(one.startswith(written) for one in sources)
        assert job["OutputDataConfig"]["S3OutputPath"].startswith(written)
        assert door.machine(run).word == "InProgress" and door.machine(run.model_copy(update={"run_id": "x"})) == NONE

    def test_jobs_of_other_names_are_left_alone(self, connect):
        for name in ("mnist-lab-2", "mnist-lab"):
            start(TrainingJob(connect(door="job", name=name)))
        TrainingJob(connect(door="job")).delete()
        assert self.described()["TrainingJobName"].startswith("mnist-lab-2-")

    def test_jobs_are_found_beyond_a_page(self, connect, monkeypatch):
        door = TrainingJob(connect(door="job"))
        runs = [start(door) for _ in range(3)]
        pages = door.account.pages
        monkeypatch.setattr(door.account, "pages", lambda *a, **k: pages(*a, **k, PaginationConfig={"PageSize": 1}))
        assert len(door.jobs()) == 3 and all(len(door.jobs(run)) == 1 for run in runs)

    def test_the_image_of_every_partition_is_known(self, connect):
        for region, address in ("cn-north-1", ".amazonaws.com.cn/"), ("us-gov-west-1", "dkr.ecr.us-gov-west-1."):
            from sagemaker.core.image_uris import retrieve

            kind = {"instance_type": "ml.g4dn.xlarge"}
            assert address in retrieve("pytorch", region, **kind, **jobs.PYTORCH)

    def test_in_local_mode_the_container_runs_here_and_its_results_go_to_s3(
        self, machine, environments, tmp_path, monkeypatch, connect
    ):
        """In a docker that is a stub; the SDK's compose file and entry point are its own."""
        work = machine.root / "opt" / "ml" / "mnist-lab"
        work.mkdir(parents=True)
        (work / ".environments").symlink_to(environments)
        docker = machine.write("docker/docker", f'#!/bin/bash\nexec {sys.executable} {DOCKER} "$@"\n', 0o755)
        for name, value in {**machine.environment, "PATH": f"{docker.parent}:{os.environ['PATH']}"}.items():
            monkeypatch.setenv(name, value)
        trial = Trial(tmp_path / "lab", machine, connect)
        trial.place(door="job", looks=0.2, local=True)
        trial.door.start(trial.job, trial.script)
        assert trial.status().state == "SUCCEEDED" and trial.files() >= OUTPUTS
        assert trial.door.jobs() == []  # nothing was started in AWS


class TestEc2:
    def test_it_is_made_as_documented(self, connect):
        door = Ec2(connect(door="ec2"))
        run = start(door)
        (found,) = door.instances()
        backend = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
        assert "KeyName" not in found and found["InstanceType"] == "g4dn.xlarge"
        assert found["MetadataOptions"]["HttpTokens"] == "required"
        assert found["IamInstanceProfile"]["Arn"].endswith("instance-profile/lab")
        assert backend.get_instance(found["InstanceId"]).instance_initiated_shutdown_behavior == "terminate"
        (group,) = door.groups()
        assert group["IpPermissions"] == [] and [one["GroupId"] for one in found["SecurityGroups"]] == [
            group["GroupId"]
        ]
        tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
        assert (tags["mnist-lab"], tags["mnist-lab-run"], tags["project"]) == ("mnist-lab", run.run_id, "mnist-lab")
        assert found["ClientToken"] == run.run_id  # so that EC2 takes the same request again for the same instance
        assert door.machine(run.model_copy(update={"run_id": "x"})) == NONE

    def test_the_newest_image_with_pytorch_is_found_by_number(self, connect):
        from emulator import IMAGES

        assert Ec2(connect(door="ec2")).image() == IMAGES[1].value  # 2.13 is newer than 2.9, which sorts after it
        assert Ec2(connect(door="ec2", image="ami-01234567")).image() == "ami-01234567"

    @pytest.mark.parametrize(
        ("kind", "family"),
        [
            ("p4d.24xlarge", "P"),
            ("vt1.3xlarge", "G and VT"),
            ("gr6.4xlarge", "G and VT"),
            ("m5.large", "Standard (A, C, D, H, I, M, R, T, Z)"),
        ],
    )
    def test_each_family_has_its_quota(self, connect, kind, family):
        door = Ec2(connect(door="ec2", device="cpu", instance_type=kind))
        assert door.quota == f"Running On-Demand {family} instances"

    def test_a_role_without_a_profile_is_a_sentence(self, connect):
        iam = boto3.client("iam", region_name="us-east-1")
        iam.remove_role_from_instance_profile(InstanceProfileName="lab", RoleName="lab")
        iam.delete_instance_profile(InstanceProfileName="lab")
        with pytest.raises(CloudError, match="aws iam create-instance-profile --instance-profile-name lab"):
            Ec2(connect(door="ec2")).check()

    def test_a_group_that_somebody_opened_is_not_used(self, connect):
        door = Ec2(connect(door="ec2"))
        client, group = boto3.client("ec2", region_name="us-east-1"), door.group()
        client.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
        )
        with pytest.raises(CloudError, match=f"somebody has opened {group}"):
            start(door)
        assert door.instances() == []

    def test_instances_of_other_names_are_left_alone(self, connect):
        other = Ec2(connect(door="ec2", name="mnist-lab-2"))
        run = start(other)
        start(Ec2(connect(door="ec2")))
        Ec2(connect(door="ec2")).delete()
        assert other.machine(run).word == "running" and len(other.groups()) == 1

    def test_no_quota_is_a_sentence(self, connect, aws):
        aws.quota = 0
        with pytest.raises(CloudError, match="quota does not allow this machine"):
            start(Ec2(connect(door="ec2")))

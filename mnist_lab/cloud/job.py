"""A SageMaker training job for each run, through the SDK's ModelTrainer; or its container here, in Docker."""

import os
import re
import tempfile
import warnings
from pathlib import Path

from mnist_lab.cloud.account import OWN, Account
from mnist_lab.cloud.errors import CloudError, explained
from mnist_lab.cloud.runs import NONE, Machine, Run, render

PYTORCH = {"version": "2.10", "py_version": "py313", "image_scope": "training"}  # the oldest that the package takes
VOLUME_GB = 30
MOVING = ("InProgress", "Stopping", "Deleting")
QUIET = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
NAMED = re.compile(r"(mnist-lab(?:-[a-z0-9]{1,8})?)-(\d{8}-\d{6}-job-[0-9a-f]{6})-\d{14}")  # name, run, the SDK's time


class TrainingJob:
    """Jobs called NAME-RUN-TIME. AWS ends each one at its MaxRuntimeInSeconds, whatever its container does."""

    def __init__(self, account: Account):
        self.account, self.settings = account, account.settings
        self.quota = f"{self.settings.machine_type} for {'spot ' if self.settings.spot else ''}training job usage"

    def script(self, run: Run) -> str:
        """Return what the container carries out."""
        return render(run, "job.sh", 1_000_000)

    def need(self) -> int:
        """Return how many machines a run takes, which is what the quota counts."""
        return 1

    def check(self) -> str:
        """Check the role, and whether the SDK is here (ModuleNotFoundError)."""
        import sagemaker.train  # noqa: F401

        self.account.role()
        return f"{sum(job['TrainingJobStatus'] == 'InProgress' for job in self.jobs())} jobs in progress"

    def start(self, run: Run, script: str) -> None:
        """Create the job. In local mode, carry out its container to its end."""
        os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"  # account.role() has checked it, with fewer permissions
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder, "code")
            code.mkdir()
            (code / "start.sh").write_bytes(script.encode())
            try:
                with explained("creating the training job"):
                    self.trainer(run, code).train(wait=self.settings.local, logs=False)
            except (ValueError, RuntimeError, OSError) as error:  # the SDK's own, of an image or of Docker
                raise CloudError(f"the SageMaker SDK cannot start the job: {' '.join(str(error).split())}") from error

    def trainer(self, run: Run, code: Path):
        """Return the SDK's description of the job. Its inputs go through S3, below PREFIX/jobs/."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the SDK's own imports
            from sagemaker.core.helper.session_helper import Session
            from sagemaker.core.image_uris import retrieve
            from sagemaker.core.training import configs
            from sagemaker.train import ModelTrainer
            from sagemaker.train.model_trainer import Mode
        settings, below, boto = self.settings, f"{run.prefix}/jobs", self.account.session
        limit, compute = {"max_runtime_in_seconds": run.seconds}, {"volume_size_in_gb": VOLUME_GB}
        if settings.spot:
            limit["max_wait_time_in_seconds"], compute["enable_managed_spot_training"] = 2 * run.seconds, True
        output = f"s3://{run.bucket}/{below}/output/{run.run_id}"  # apart from the inputs, which the role may only read
        where = {
            "role": self.account.role(),
            "stopping_condition": configs.StoppingCondition(**limit),
            "output_data_config": configs.OutputDataConfig(s3_output_path=output),
            "tags": [configs.Tag(key="project", value=OWN)],
        }
        if settings.local:
            where = {"training_mode": Mode.LOCAL_CONTAINER, "local_container_root": str(code.parent)}
        kind = {"cuda": "local_gpu", "cpu": "local_cpu"}[settings.device] if settings.local else settings.machine_type
        image = settings.image or retrieve("pytorch", run.region, instance_type=settings.machine_type, **PYTORCH)
        bucket = {"default_bucket": run.bucket, "default_bucket_prefix": below}
        return ModelTrainer(
            sagemaker_session=Session(boto, **bucket, sagemaker_config=QUIET),
            base_job_name=f"{settings.name}-{run.run_id}",
            training_image=image,
            source_code=configs.SourceCode(source_dir=str(code), command="bash start.sh", ignore_patterns=[]),
            compute=configs.Compute(instance_type=kind, instance_count=1, **compute),
            hyperparameters={"command": " ".join(run.command)},  # for people: the worker has it in its script
            **where,
        )

    def jobs(self, run: Run | None = None) -> list[dict]:
        """Return what AWS lists of the jobs of this name, or of one run."""
        name, wanted = self.settings.name, run.run_id if run else None
        part = {"NameContains": f"{name}-{wanted or ''}"}
        listed = self.account.pages("sagemaker", "list_training_jobs", "TrainingJobSummaries", **part)
        named = [(NAMED.fullmatch(job["TrainingJobName"]), job) for job in listed]
        return [job for found, job in named if found and found[1] == name and wanted in (None, found[2])]

    def machine(self, run: Run) -> Machine:
        """Return the job's state."""
        for job in self.jobs(run):
            found = self.account.call("sagemaker", "describe_training_job", TrainingJobName=job["TrainingJobName"])
            word = found["TrainingJobStatus"]
            return Machine(word, word in MOVING, word != "InProgress", found.get("FailureReason", ""))
        return NONE

    def stop(self, run: Run | None = None) -> None:
        """Stop the run's job, or all of this name, and wait."""
        for job in self.jobs(run):
            name, word = {"TrainingJobName": job["TrainingJobName"]}, job["TrainingJobStatus"]
            try:
                if word == "InProgress":
                    self.account.call("sagemaker", "stop_training_job", **name)
                if word in MOVING:
                    self.account.wait("sagemaker", "training_job_completed_or_stopped", **name)
            except CloudError:  # also of one that has ended or failed meanwhile
                if self.account.call("sagemaker", "describe_training_job", **name)["TrainingJobStatus"] in MOVING:
                    raise

    def delete(self) -> None:
        """Stop and delete all jobs of this name, and their logs."""
        self.stop()
        for job in self.jobs():
            self.account.call("sagemaker", "delete_training_job", TrainingJobName=job["TrainingJobName"])
            self.account.delete_logs(f"{job['TrainingJobName']}/")

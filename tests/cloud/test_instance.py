import boto3
import pytest

from mnist_lab.cloud.errors import CloudError, NotThere
from mnist_lab.cloud.instance import Instance

SCRIPT = "#!/bin/bash\nexit 0\n"


@pytest.fixture
def instance(connect) -> Instance:
    return Instance(connect())


def make(instance: Instance) -> None:
    instance.put_script(SCRIPT)
    instance.create(instance.account.role())


def test_a_life(instance, aws):
    aws.pending_stops = 1
    assert instance.status() == "none" and instance.script() is None
    make(instance)
    assert instance.status() == "Pending"
    instance.request_stop()  # refused while Pending, so asked again
    assert instance.wait(("Stopped",)) == "Stopped" and aws.refused_stops == 1
    instance.request_stop()  # nothing to do
    aws.pending_stops = 0
    instance.start()
    assert instance.wait(("InService",)) == "InService"
    assert instance.url().startswith("https://mnist-lab")
    instance.delete()
    assert instance.status() == "none" and instance.script() is None
    instance.delete()  # nothing to do


def test_it_is_made_as_documented(instance):
    make(instance)
    found = instance.describe()
    assert (found["InstanceType"], found["PlatformIdentifier"]) == ("ml.g4dn.xlarge", "notebook-al2023-v1")
    assert found["InstanceMetadataServiceConfiguration"] == {"MinimumInstanceMetadataServiceVersion": "2"}
    assert (found["RootAccess"], found["DirectInternetAccess"]) == ("Disabled", "Enabled")
    assert (found["VolumeSizeInGB"], found["NotebookInstanceLifecycleConfigName"]) == (10, "mnist-lab")


def test_a_script_is_stored_once_and_replaced_when_it_differs(instance):
    assert instance.put_script(SCRIPT) and not instance.put_script(SCRIPT)
    assert instance.put_script(SCRIPT + "# more\n")
    assert instance.script() == SCRIPT + "# more\n"


def test_a_script_that_is_too_large_is_refused_before_aws_sees_it(instance):
    with pytest.raises(CloudError, match="SageMaker takes 12,288"):
        instance.put_script(SCRIPT + "#" * 12_288 + "\n")
    assert instance.script() is None


def test_a_stopped_instance_is_adapted_to_the_settings(instance, connect):
    make(instance)
    instance.request_stop()
    instance.wait(("Stopped",))
    role = instance.account.role()
    assert not instance.adapt(instance.describe(), role)
    changes = {"instance_type": "ml.g5.xlarge", "volume_gb": 20, "platform": "notebook-al2023-v2"}
    other = Instance(connect(**changes))
    assert other.adapt(other.describe(), role)
    found = other.describe()
    assert [found[name] for name in ("InstanceType", "VolumeSizeInGB", "PlatformIdentifier")] == [*changes.values()]
    assert not other.adapt(found, role)
    with pytest.raises(CloudError, match="cannot shrink"):
        instance.adapt(instance.describe(), role)
    for more in ({"subnet": "subnet-01234567", "security_group": "sg-01234567"}, {"kms_key": "key"}):
        secluded = Instance(connect(**more))
        with pytest.raises(CloudError, match=r"--(subnet|kms-key) cannot change .*down first"):
            secluded.adapt(instance.describe(), role)


def test_an_instance_that_is_deleted_between_two_calls_is_gone(instance, monkeypatch):
    make(instance)
    real = instance.account.call

    def call(service, operation, **arguments):
        if operation == "list_tags":
            raise NotThere("it does not exist")
        return real(service, operation, **arguments)

    monkeypatch.setattr(instance.account, "call", call)
    assert instance.describe() is None


def test_somebody_elses_instance_is_not_touched(instance):
    client = boto3.client("sagemaker", region_name="us-east-1")
    client.create_notebook_instance(
        NotebookInstanceName="mnist-lab", InstanceType="ml.t3.medium", RoleArn=instance.account.role()
    )
    for action in (instance.describe, instance.request_stop, instance.delete):
        with pytest.raises(CloudError, match=r"the name mnist-lab is taken .* --name"):
            action()
    assert client.describe_notebook_instance(NotebookInstanceName="mnist-lab")["NotebookInstanceStatus"] != "Deleting"


def test_an_instance_that_nothing_would_stop_is_not_started(instance):
    make(instance)
    instance.request_stop()
    instance.wait(("Stopped",))
    client = boto3.client("sagemaker", region_name="us-east-1")
    client.update_notebook_instance(NotebookInstanceName="mnist-lab", DisassociateLifecycleConfig=True)
    instance.wait(("Stopped",))
    with pytest.raises(CloudError, match=r"nothing would stop it: mnist-lab sagemaker up"):
        instance.start()
    assert instance.adapt(instance.describe(), instance.account.role())
    instance.start()
    instance.wait(("InService",))


def test_quota_0_is_a_sentence_and_makes_nothing(instance, aws):
    aws.quota = 0
    with pytest.raises(CloudError, match=r"quota does not allow .*servicequotas"):
        make(instance)
    assert instance.status() == "none"


def test_no_capacity_is_a_sentence(instance, aws):
    aws.capacity = False
    make(instance)
    with pytest.raises(CloudError, match=r"no such instance free .* --instance-type"):
        instance.wait(("InService",))


def test_a_wait_ends(instance, aws):
    aws.pending_stops = float("inf")
    make(instance)
    with pytest.raises(CloudError, match="has been Pending"):
        instance.wait(("InService",), seconds=0)


def test_a_dry_run_waits_for_nothing(instance, connect, capsys):
    dry = Instance(connect(dry_run=True))
    dry.put_script(SCRIPT)
    dry.create("arn:aws:iam::123456789012:role/lab")
    assert dry.wait(("InService",)) == "InService"
    said = capsys.readouterr().err
    assert "would call sagemaker.create_notebook_instance " in said and "<script," in said
    assert instance.status() == "none" and instance.script() is None

"""AWS for the tests of the cloud: an emulator on this machine; see emulator.py."""

import functools
import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import boto3
import botocore.session
import pytest
from emulator import TRUST, WHERE, Emulator, Machine

from mnist_lab.cloud import commands, verbs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.settings import CloudSettings, make_settings
from mnist_lab.runtime import Environment

SETTINGS = {"region": "us-east-1", "role": "lab", "bucket": "lab-bucket", "poll_seconds": 0.05}
# AWS's models are parsed once, not for every account that a test makes.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)


@pytest.fixture(scope="session")
def emulator():
    """AWS on a port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Emulator()
    yield server
    server.stop()


@pytest.fixture
def aws(emulator, monkeypatch):
    """An empty AWS that this process and its children talk to, with one role; a test may set what it returns."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MNIST_LAB_CLOUD_", "SAGEMAKER_"))]:
        monkeypatch.delenv(name)
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
    world = emulator.reset()
    iam = boto3.client("iam", region_name="us-east-1")
    iam.create_role(RoleName="lab", AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName="lab")
    iam.add_role_to_instance_profile(InstanceProfileName="lab", RoleName="lab")
    yield world
    world.__init__()


@pytest.fixture
def machine(aws, emulator, tmp_path):
    """The machine behind whatever is started: nothing of it outlives a test."""
    made = Machine(tmp_path / "machine", emulator, told="3.10.9-2.10.0")
    made.serve(aws)
    yield made
    made.halt()
    assert made.processes() == []


@pytest.fixture(scope="session")
def environments(tmp_path_factory):
    """Where machines keep what pip installed, which the tests share; the first makes it."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="session")
def gpu_environment() -> Environment:
    """Where a run on a machine happens."""
    return Environment("Tesla T4", "cuda", "float32", 1, "3.10.9", "Linux x86_64", {"torch": "2.10.0"}, "abc")


@pytest.fixture
def connect(aws) -> Callable[..., Account]:
    """Connects to the account, with changes of the settings."""
    return lambda **changes: Account(make_settings(SETTINGS | changes))


PACKED = functools.cache(make_bundle)


@pytest.fixture
def packed(monkeypatch):
    """The bundle of this checkout is packed once for all tests, whatever happens to its files meanwhile."""
    monkeypatch.setattr(verbs, "make_bundle", PACKED)


@pytest.fixture
def settings() -> Callable[..., CloudSettings]:
    """Makes settings that can work, with changes."""
    return lambda **changes: make_settings(SETTINGS | changes)


@pytest.fixture(scope="session")
def options() -> Callable[..., Namespace]:
    """Parses a verb and its options."""
    parser = ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    return lambda *arguments: parser.parse_args(["cloud", *arguments])


@pytest.fixture
def lab(tmp_path, options) -> Callable[..., int]:
    """Carries out a verb as the command line does, but leaves runs and records in a folder of the test."""

    def carry_out(verb: str, *arguments: str) -> int:
        session = verbs.Session(options(verb, *WHERE, *arguments), tmp_path / "fetched", tmp_path / "tracked")
        return verbs.VERBS[verb](session)

    return carry_out

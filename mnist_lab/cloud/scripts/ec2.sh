# shellcheck shell=bash disable=SC2034,SC2154 # included after common.sh
# An EC2 instance of a Deep Learning image. It was started so that its shut-down terminates it.
work=$home/mnist-lab
pythons=("$root/opt/pytorch/bin/python")

check_machine() {
    command -v aws >/dev/null && return
    echo "mnist-lab: there is no aws command here" >&2
    shutdown -h now
    exit 1
}

stop_machine() { shutdown -h now; }
when_ready() { :; }

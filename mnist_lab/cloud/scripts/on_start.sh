#!/bin/bash
# shellcheck disable=SC1091,SC2154 # settings.sh, written at the start, assigns what looks unassigned
# SageMaker runs this as root at every start of the instance, and waits at most five minutes until it has ended and its
# output is closed. So everything slow is left to two detached processes. With exit code 1 the start fails, at no cost.
set -euo pipefail
umask 022
control=${MNIST_LAB_ROOT:-}/var/lib/mnist-lab # root's, so that no notebook can change what root runs
mkdir -p "$control"

cat >"$control/settings.sh" <<'END_OF_SETTINGS'
#include settings
#include common.sh
END_OF_SETTINGS
cat >"$control/watchdog.sh" <<'END_OF_WATCHDOG'
#include watchdog.sh
END_OF_WATCHDOG
cat >"$control/worker.sh" <<'END_OF_WORKER'
#include worker.sh
END_OF_WORKER

. "$control/settings.sh"
metadata=$root/opt/ml/metadata/resource-metadata.json
instance=$(sed -n 's/.*"ResourceName" *: *"\([A-Za-z0-9-]*\)".*/\1/p' "$metadata")
if [[ -z $instance ]]; then
    echo "mnist-lab: $metadata does not name this instance, so nothing could stop it again" >&2
    exit 1
fi
if ! command -v aws >/dev/null; then
    echo "mnist-lab: there is no aws command here, so nothing could stop this instance again" >&2
    exit 1
fi
printf 'instance=%s\nstarted=%s\n' "$instance" "$(date +%s)" >>"$control/settings.sh"

setsid nohup bash "$control/watchdog.sh" </dev/null >>"$control/watchdog.log" 2>&1 &

as_user=()
[[ $(id -un) == "$user" ]] || as_user=(runuser -u "$user" --)
# Everything below home is made as its user: a link that a notebook left there must not lead root anywhere.
"${as_user[@]}" mkdir -p "$work/logs"
"${as_user[@]}" touch "$log"
setsid nohup "${as_user[@]}" bash "$control/worker.sh" </dev/null >>"$log" 2>&1 &
echo "mnist-lab: run $run_id goes on in the background; its log: $run_url/log.txt"

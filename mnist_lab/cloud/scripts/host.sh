#!/bin/bash
# shellcheck disable=SC1091,SC2154 # settings.sh, written at the start, assigns what looks unassigned
# A machine runs this as root at its start. SageMaker waits at most five minutes until it has ended and its output is
# closed, so everything slow is left to two detached processes.
#include first
set -euo pipefail
umask 022
control=${MNIST_LAB_ROOT:-}/var/lib/mnist-lab # root's, so that no notebook can change what root runs
mkdir -p "$control"

cat >"$control/settings.sh" <<'END_OF_SETTINGS'
#include settings
#include common.sh
#include door.sh
log=$work/logs/$run_id.txt
END_OF_SETTINGS
cat >"$control/guard.sh" <<'END_OF_GUARD'
#include guard.sh
END_OF_GUARD
cat >"$control/worker.sh" <<'END_OF_WORKER'
#include worker.sh
END_OF_WORKER

printf 'started=%s\n' "$(date +%s)" >>"$control/settings.sh"
. "$control/settings.sh"
check_machine
for task in cap worker; do
    setsid nohup bash "$control/guard.sh" $task </dev/null >>"$control/$task.log" 2>&1 &
done
echo "mnist-lab: run $run_id goes on in the background; its log: $run_url/log.txt"

#!/bin/bash
# shellcheck disable=SC1091,SC2154,SC2016 # settings.sh, written at the start, assigns what looks unassigned
# Root's: waits for the worker ("worker") or for the end of the time ("cap"), and then stops the machine.
set -u
. "$(dirname "$0")/settings.sh"
# Where the working directory was deleted, aws does nothing and reports success
cd /
if [[ $1 == cap ]]; then
    sleep $((max_seconds + grace_seconds))
    say "the time is up: $max_seconds s, and $grace_seconds s of grace"
else
    as_user=()
    [[ $(id -un) == "$user" ]] || as_user=(runuser -u "$user" --)
    # Everything below home is made as its user: a link that a notebook left there must not lead root anywhere.
    "${as_user[@]}" bash -c 'mkdir -p "${1%/*}"; exec bash "$0" >>"$1" 2>&1' "$control/worker.sh" "$log"
    [[ $? != 75 ]] || exit 0 # it had nothing to do: a person started the machine
fi
until stop_machine; do
    say "THE MACHINE COULD NOT BE STOPPED FROM HERE: mnist-lab cloud stop. Trying again"
    sleep "$poll_seconds"
done

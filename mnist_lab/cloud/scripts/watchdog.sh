#!/bin/bash
# shellcheck disable=SC1091,SC2154 # settings.sh, written at the start, assigns what looks unassigned
# Stops the instance once its time is up, also if the worker was killed or hangs.
set -u
. "$(dirname "$0")/settings.sh"
cd /
sleep $((max_seconds + grace_seconds))
say "the time is up: $max_seconds s, and $grace_seconds s of grace"
until stop_instance 60; do :; done

#!/bin/sh
# Starts a service, puts load on it, and fails with status 3 when its memory keeps growing meanwhile.
#
#   LOAD='COMMAND that sends requests until it is killed' leak-gate.sh SERVICE [ARGUMENT ...]
#
# Status: 0 no leak, 3 a leak, anything else: the gate itself did not work. Results go to $RESULTS.
set -eu
: "${LOAD:?set LOAD to a command that sends requests until it is killed}"
: "${MEMTRACE:=memtrace}" "${DURATION:=60s}" "${INTERVAL:=2s}" "${WARM_UP:=5}" "${RESULTS:=leak-results}"
: "${THRESHOLD:=1MB/h}" "${SUPPRESSIONS:=/dev/null}"
if [ "$(id -u)" -eq 0 ]; then sudo=''; else sudo='sudo'; fi
mkdir -p "$RESULTS"

"$@" &
service=$!
load=''
trap 'kill $service $load 2>/dev/null || true' EXIT
sh -c "exec $LOAD" &
load=$!
# What the service sets up once is no leak: let it.
sleep "$WARM_UP"

status=0
$sudo "$MEMTRACE" --pid "$service" --interval "$INTERVAL" --duration "$DURATION" \
    --fail-on-leak --leak-threshold "$THRESHOLD" --suppressions "$SUPPRESSIONS" \
    --junit "$RESULTS/leaks.xml" --sarif "$RESULTS/leaks.sarif" --output "$RESULTS/leaks.txt" || status=$?
# The last report is the one that counts; those of the intervals stand before it.
cat "$RESULTS/leaks.txt"

# A service that died, or that nobody used, has shown nothing.
kill -0 "$service" || { echo 'leak-gate: the service ended during the test' >&2; exit 1; }
kill -0 "$load" || { echo 'leak-gate: the load ended during the test' >&2; exit 1; }
exit "$status"

# A program that is stopped and goes on, by signals and by the freezer of its cgroup.
. "$SOURCE/survive.sh"

worker_stop=$FOLDER/worker-stop
STOP=$worker_stop "$WORKER" > "$FOLDER/worker" &
worker=$!
group=
for at in /sys/fs/cgroup/freezer /sys/fs/cgroup /sys/fs/cgroup/unified; do
    mkdir "$at/memtrace-survive-$$" 2> /dev/null || continue
    for switch in freezer.state cgroup.freeze; do
        if [ -e "$at/memtrace-survive-$$/$switch" ]; then
            group=$at/memtrace-survive-$$ freeze=$switch
            break 2
        fi
    done
    rmdir "$at/memtrace-survive-$$"
done
must [ -n "$group" ]
trap 'thaw; kill -CONT $worker; kill $worker; wait $worker; rmdir "$group"' EXIT

freeze() {
    case $freeze in freezer.state) echo FROZEN ;; *) echo 1 ;; esac > "$group/$freeze"
}
thaw() {
    case $freeze in freezer.state) echo THAWED ;; *) echo 0 ;; esac > "$group/$freeze"
}

echo $worker > "$group/cgroup.procs"
echo "ready $worker"
until [ -e "$STOP" ]; do
    must kill -STOP $worker
    sleep 0.03
    must kill -CONT $worker
    sleep 0.03
    freeze
    sleep 0.03
    thaw
    sleep 0.03
done
touch "$worker_stop"
wait $worker
must [ $? = 7 ]
tail -n 1 "$FOLDER/worker"
rmdir "$group"
trap - EXIT
exit 7

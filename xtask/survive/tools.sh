# A program that strace, gdb and perf look at in turn, perf beside each of the others.
. "$SOURCE/survive.sh"

worker_stop=$FOLDER/worker-stop
STOP=$worker_stop "$BUILD/threads" > "$FOLDER/worker" &
worker=$!
echo "ready $worker"
until [ -e "$STOP" ]; do
    perf record -q -e cpu-clock -p $worker -o "$FOLDER/perf" -- sleep 0.5 > /dev/null 2>&1 &
    perf=$!
    timeout 0.3 strace -q -f -p $worker -o "$FOLDER/strace" 2> /dev/null
    must [ -s "$FOLDER/strace" ]
    # A breakpoint of gdb's own beside ours.
    gdb -q -nx -batch -p $worker -ex 'break calloc' -ex 'continue' -ex 'backtrace' -ex 'delete' -ex 'detach' > "$FOLDER/gdb" 2>&1
    must grep -q calloc "$FOLDER/gdb"
    must wait $perf
done
touch "$worker_stop"
wait $worker
must [ $? = 7 ]
tail -n 1 "$FOLDER/worker"
exit 7

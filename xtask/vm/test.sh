# Runs memtrace on the leaking service in five ways, on a program that throws and on Python, which together load every BPF program.
tell() { echo "$@" >/dev/ttyS1; }

# What the kernel has loaded and attached for the memtrace that runs, once it has attached.
look() {
    while kill -0 "$1" 2>/dev/null && ! busybox grep -qs 'attached to' /tmp/messages; do busybox usleep 200000; done
    kill -0 "$1" 2>/dev/null || return
    tell programs "$(bpftool --json prog show)"
    busybox grep -h link_type /proc/"$1"/fdinfo/* | busybox sort -u | while read -r _ kind; do tell link "$kind"; done
}

pass() {
    echo "== memtrace $*"
    tell pass "$*"
    busybox rm -f /tmp/messages
    memtrace --pid "$traced" --format json --interval 1s "$@" >/tmp/report 2>/tmp/messages &
    look $!
    wait $!
    tell status $?
    busybox cat /tmp/messages
    tell report "$(busybox tail -n 1 /tmp/report)"
}

tell release "$(busybox uname -r)"
service &
traced=$!
pass --duration 12s
pass --duration 12s --syscalls
pass --duration 12s --sample 1KiB
pass --duration 6s --mode growth
pass --duration 2s --empty-programs
thrower &
traced=$!
pass --duration 4s --alloc exe:_Znwm --free exe:_ZdlPv
busybox kill "$traced"
# Python, whose frames the kernel side walks by what the kernel says of itself.
/usr/bin/python3 -S -E /leak.py &
traced=$!
pass --duration 6s --min-size 5000
tell done

#!/bin/busybox sh
# The guest's first process: sets the machine up, runs the test in a process of its own and powers off.
# The second serial line carries what `xtask/src/vm_test/guest.rs` reads, one line an item; the first is for people.
export PATH=/bin:/sbin:/usr/sbin
mount() { busybox mount "$@" || echo "cannot mount $*"; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
busybox stty -F /dev/ttyS1 raw
# The service wants a parent that is not the first process.
busybox sh /test.sh
busybox poweroff -f

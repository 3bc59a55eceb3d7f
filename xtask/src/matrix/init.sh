#!/bin/busybox sh
# The first process of a guest. The console is on the first serial line; the
# second carries what the tests print, between two lines of ours.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cg /sys/fs/cgroup 2>/dev/null
chmod 1777 /tmp
ip link set lo up
# Kernels before 5.11 charge BPF maps to the locked memory.
ulimit -l unlimited
stty -F /dev/ttyS1 raw
cd /t
{ echo; echo "GUEST-KERNEL $(uname -r)"; sh /t/test.sh 2>&1; echo "GUEST-EXIT $?"; } >/dev/ttyS1
poweroff -f

"""qemu-system: a guest that spins in firmware, and block requests, which are coroutines, whose bytes are checked."""

import os
import subprocess

from survive import FOLDER, digest, end, must, round_ends, say_ready, stopped

disk = os.path.join(FOLDER, "disk")
with open(disk, "wb") as file:
    file.truncate(64 << 20)
machine = subprocess.Popen(
    ["qemu-system-x86_64", "-display", "none", "-serial", "none", "-monitor", "stdio", "-m", "64", "-accel", "tcg", "-nic", "none",
     "-drive", f"file={disk},format=raw,if=none,id=d0", "-device", "virtio-blk-pci,drive=d0"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
)
say_ready(machine.pid)


def ask(command, until):
    machine.stdin.write(command + "\n")
    machine.stdin.flush()
    while True:
        line = machine.stdout.readline()
        must(line, f"qemu answers {command}")
        must("failed" not in line and "Error" not in line, line)
        if until in line:
            return line.split("(")[0].strip()


while not stopped():
    seen = []
    for i in range(20):
        place, pattern = i * 300 * 1024, 1 + i
        seen.append(ask(f'qemu-io d0 "write -P {pattern} {place} 200k"', "wrote"))
        seen.append(ask(f'qemu-io d0 "read -P {pattern} {place} 200k"', "read"))
        ask(f'qemu-io d0 "aio_write -P {pattern} {place} 64k"', "wrote")
    round_ends(digest(seen))
machine.stdin.write("quit\n")
machine.stdin.flush()
machine.stdout.read()
must(machine.wait() == 0, f"qemu ends with 0, not {machine.returncode}")
end()

"""PostgreSQL with two sessions of pgbench, whose sums have to agree at the end of each round."""

import glob
import os
import signal
import subprocess
import time

from survive import FOLDER, digest, end, must, round_ends, say_ready, stopped

NOBODY = 65534
os.chmod(FOLDER, 0o700)
os.chown(FOLDER, NOBODY, NOBODY)
programs = max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda name: int(name.split("/")[4]))
programs = os.path.dirname(programs)


def command(name, *arguments):
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"{programs}/{name}", *arguments]


def run(name, *arguments):
    place = ["-h", FOLDER, "-U", "bench"]
    return subprocess.check_output(command(name, *place, *arguments), stderr=subprocess.DEVNULL, text=True, cwd=FOLDER)


def ask(query):
    return run("psql", "-X", "-A", "-t", "-c", query, "postgres")


made = command("initdb", "--no-sync", "--auth", "trust", "--username", "bench", "--locale", "C", "-D", f"{FOLDER}/data")
subprocess.check_call(made, stdout=subprocess.DEVNULL, cwd=FOLDER)
options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off", "-c", "jit=on", "-c", "jit_above_cost=0"]
log = open(os.path.join(FOLDER, "log"), "w")
server = subprocess.Popen(
    command("postgres", *options, "-D", f"{FOLDER}/data", "-k", FOLDER), cwd=FOLDER, stdout=log, stderr=log
)
while True:
    try:
        ask("select 1")
        break
    except subprocess.CalledProcessError:
        must(server.poll() is None, "the server has started")
        time.sleep(0.1)
run("pgbench", "-i", "-q", "postgres")
session = subprocess.Popen(
    command("psql", "-h", FOLDER, "-U", "bench", "-X", "-A", "-t", "postgres"),
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=FOLDER,
)


def in_session(query):
    session.stdin.write(query + ";\n\\echo done\n")
    session.stdin.flush()
    lines = []
    while not lines or lines[-1] != "done\n":
        lines.append(session.stdout.readline())
        must(lines[-1], "the session answers")
    return lines[:-1]


backend = in_session("select pg_backend_pid()")[0].strip()
say_ready(server.pid, backend)
while not stopped():
    run("pgbench", "-n", "-c", "2", "-t", "20", "postgres")
    sums = in_session(
        "select (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history),"
        "(select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers),"
        "(select md5(string_agg(aid::text, ',' order by aid desc)) from pgbench_accounts where aid < 20000)"
    )
    must(sums[0].startswith("t|t|"), sums)
    round_ends(digest(sums))
session.stdin.close()
must(session.wait() == 0, "the session ends with 0")
server.send_signal(signal.SIGINT)
must(server.wait() == 0, f"the server ends with 0, not {server.returncode}")
with open(f"{FOLDER}/log") as file:
    must("terminated by signal" not in file.read(), "no process of the server was ended by a signal")
end()

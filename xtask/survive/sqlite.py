"""The sqlite3 shell, fed statements; a number that it makes must stay the same."""

import subprocess

from survive import digest, end, must, round_ends, say_ready, stopped

STATEMENTS = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
  insert into t select i, printf('text %d', i * 7919 % 1009), i / 7.0 from n;
create index byb on t(b);
update t set c = c * 2 where b like '%7%';
delete from t where a % 5 = 0;
select count(*), sum(length(b)), round(sum(c), 3) from t;
select group_concat(b, ',') from (select b from t group by b order by b desc limit 200);
select sum(x.a * y.a) from t x join t y using(b) where x.a < 400;
drop table t;
select 'done';
"""
shell = subprocess.Popen(["sqlite3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
say_ready(shell.pid)
while not stopped():
    shell.stdin.write(STATEMENTS)
    shell.stdin.flush()
    lines = []
    while not lines or lines[-1] != "done\n":
        lines.append(shell.stdout.readline())
        must(lines[-1], "sqlite3 answers")
    round_ends(digest(lines))
shell.stdin.close()
must(shell.wait() == 0, f"sqlite3 ends with 0, not {shell.returncode}")
end()

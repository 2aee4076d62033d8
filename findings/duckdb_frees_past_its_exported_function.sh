#!/bin/bash
# duckdb 2.0.1 (Python package), x86_64: the exported functions by which DuckDB's allocator takes and gives back memory.
#
# Expected: `duckdb::Allocator::AllocateData` and `duckdb::Allocator::FreeData`, both exported, are a pair: a probe, a breakpoint or a wrapper on
# the two sees each block come and go.
# Seen: FreeData is inlined into all that gives memory back, such as the end of an `AllocatedData`, so that the exported one is never called: a
# count by these two shows a leak that is none. What the two call through pointers by default, `DefaultAllocate` and `DefaultFree`, cannot be
# inlined, and is a pair. (The other calls of AllocateData are of allocators with functions of their own.)
#
# Output seen (calls of each):
#   AllocateData 6715
#   FreeData 0
#   DefaultAllocate 5935
#   DefaultFree 5935
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v gdb >"$folder/log" || { echo "gdb is needed"; exit 1; }
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
cat >"$folder/query.py" <<'PY'
import duckdb
connection = duckdb.connect(config={"threads": 1})
for _ in range(20):
    connection.execute("create or replace table rows as select range as id, 'name ' || range as name from range(20000)")
    connection.execute("select name, count(*) from rows group by name order by name limit 10").fetchall()
connection.close()
PY
cat >"$folder/count.gdb" <<'GDB'
set breakpoint pending on
set pagination off
set confirm off
break _ZN6duckdb9Allocator12AllocateDataEm
break _ZN6duckdb9Allocator8FreeDataEPhm
break _ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm
break _ZN6duckdb9Allocator11DefaultFreeEPNS_20PrivateAllocatorDataEPhm
ignore 1 100000000
ignore 2 100000000
ignore 3 100000000
ignore 4 100000000
run
info breakpoints
GDB
gdb --batch --nx -x "$folder/count.gdb" --args "$folder/python/bin/python3" "$folder/query.py" >"$folder/log" 2>&1 || true
calls() { grep -A1 -E "^[0-9]+ .*$1" "$folder/log" | sed -nE 's/.*already hit ([0-9]+) times?.*/\1/p'; }
for name in AllocateData FreeData DefaultAllocate DefaultFree; do
    number=$(calls "Allocator::$name|Allocator[0-9]+$name")
    echo "$name ${number:-0}"
    declare "$name=${number:-0}"
done
[ "$AllocateData" -gt 1000 ] && [ $((10 * FreeData)) -lt "$AllocateData" ]
[ $((100 * DefaultFree)) -ge $((99 * DefaultAllocate)) ]
echo "as described"

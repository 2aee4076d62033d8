#!/bin/bash
# node 20.19.5 (npm package `node`), x86_64, started with --use-largepages=on.
#
# Expected: node's code either runs from its file or, as the option says, from large pages.
# Seen: of 27.8 MB of text mapped at one piece, 25.2 MB (whole 2 MiB pages) become anonymous memory without a file, while
# 0.6 MB before and 2.1 MB behind stay mapped from the file. So one function of the program has a file and its neighbour has
# none; a tool that names code by its mapping loses nine tenths of it and not all; and 25 MB of what the kernel counts as
# private anonymous memory is program text. This happens with transparent huge pages on "madvise" as well as on "always".
#
# Output seen:
#   off: 27811840 bytes of the main text in the file, 0 without a file
#   on: 2646016 bytes of the main text in the file, 25165824 without a file
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" node@20.19.5 >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
node="$folder/node_modules/node/bin/node"
[ "$("$node" --version)" = v20.19.5 ]

cat >"$folder/text.js" <<'JS'
// The main text is the largest executable mapping of the file when nothing is moved: its bounds come as arguments.
const fs = require('fs');
const exe = fs.realpathSync('/proc/self/exe');
const [first, end] = process.argv.slice(2).map((bound) => parseInt(bound, 16));
let inFile = 0, without = 0, largest = [0, 0];
for (const line of fs.readFileSync('/proc/self/maps', 'utf8').split('\n')) {
  const found = line.match(/^([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \S+ *(.*)$/);
  if (!found) continue;
  const [from, to] = [parseInt(found[1], 16), parseInt(found[2], 16)];
  if (found[3] === exe && to - from > largest[1] - largest[0]) largest = [from, to];
  if (first !== undefined && (to <= first || from >= end)) continue;
  if (found[3] === exe) inFile += to - from;
  if (found[3] === '') without += to - from;
}
if (first === undefined) console.log(largest.map((bound) => bound.toString(16)).join(' '));
else console.log(`${inFile} bytes of the main text in the file, ${without} without a file`);
JS

read -r first end < <("$node" --use-largepages=off "$folder/text.js")
for how in off on; do
    echo "$how: $("$node" --use-largepages=$how "$folder/text.js" "$first" "$end")"
done | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
off: 27811840 bytes of the main text in the file, 0 without a file
on: 2646016 bytes of the main text in the file, 25165824 without a file
SEEN
echo 'as described'

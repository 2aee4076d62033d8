# Chromium without a window, as a user of few rights: its processes are confined by seccomp and by namespaces of their own.
. "$SOURCE/survive.sh"

cat > page.html <<'H'
<!doctype html><body><script>
let sum = 7, words = new Map();
for (let i = 0; i < 200000; i++) { sum = (sum * 31 + i) % 1000003; words.set(sum % 500, 'x'.repeat(i % 40)); }
for (const [key, word] of [...words].sort((a, b) => a[0] - b[0])) {
    const line = document.createElement('p');
    line.textContent = key + word.length;
    document.body.append(line);
}
document.title = sum;
</script></body>
H
echo "ready $$"
while ! stopped; do
    round_ends "$(chromium --headless --disable-gpu --no-first-run --disable-background-networking --user-data-dir="$FOLDER/profile" \
        --dump-dom "file://$FOLDER/page.html" 2> "$FOLDER/errors" | md5sum | cut -c 1-16)"
done
end

# A shell that runs programs all the time, each for a moment, and checks what they print.
. "$SOURCE/survive.sh"

echo "ready $$"
while ! stopped; do
    all=
    for i in 1 2 3 4 5 6 7 8; do
        text=$(seq 1 "$i"00 | awk '{ s += $1 * $1 } END { print s }' | sha256sum | cut -c 1-16)
        all=$all$text$(expr "$i" \* "$i")$(printf '%s' "$text" | sort | tr a-f A-F)
    done
    round_ends "$(echo "$all" | md5sum | cut -c 1-16)"
done
end

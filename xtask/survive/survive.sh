# What the shell programs share: see survive.h. Read by `. "$SOURCE/survive.sh"`.
first=

stopped() {
    [ -n "$first" ] && [ -e "$STOP" ]
}

must() {
    "$@" || { echo "survive: not true: $*" >&2; exit 1; }
}

round_ends() {
    [ -z "$first" ] || must [ "$1" = "$first" ]
    first=$1
}

end() {
    echo "result $first"
    exit 7
}

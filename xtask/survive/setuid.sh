# As a user of few rights: a program with the set-user-id bit must still get root's rights.
. "$SOURCE/survive.sh"

must [ "$(id -u)" = 65534 ]
echo "ready $$"
while ! stopped; do
    round_ends "$(for i in 1 2 3 4 5; do "$SETUID_ID" -u; "$SETUID_ID" -ru; done | tr '\n' ' ')"
    must [ "$first" = '0 65534 0 65534 0 65534 0 65534 0 65534 ' ]
done
end

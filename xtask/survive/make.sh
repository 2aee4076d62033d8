# make with two jobs, which compiles, links and runs a small program again and again.
. "$SOURCE/survive.sh"

cat > "$FOLDER/Makefile" <<'M'
all: result
1.c 2.c 3.c: %.c: ; @echo 'int f$*(int x) { return x * $* + 1; }' > $@
1.o 2.o 3.o main.o: %.o: %.c ; @cc -O1 -c -o $@ $<
main.c: ; @echo '#include <stdio.h>' > $@; echo 'int f1(int), f2(int), f3(int); int main(void) { printf("%d", f1(f2(f3(5)))); }' >> $@
program: main.o 1.o 2.o 3.o ; @cc -o $@ $^
result: program ; @./program > $@
M
cd "$FOLDER"
echo "ready $$"
while ! stopped; do
    rm -f ./*.o ./*.c program result
    must make -s -j 2
    round_ends "$(md5sum < result | cut -c 1-16)$(cat ./*.o | md5sum | cut -c 1-16)"
done
end

// Goroutines that call C, which allocates and calls Go again.
package main

/*
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int in_go(int);

static int in_c(int seed) {
    int sum = 0;
    for (int i = 0; i < 20; i++) {
        char *block = malloc(100 + seed * i % 1000);
        memset(block, seed, 100);
        if (i % 5 == 0) sum += in_go(seed + i);
        sum += block[99];
        free(block);
    }
    return sum;
}
*/
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"
)

func deep(calls int) int {
	var frame [512]byte
	frame[calls] = byte(calls)
	if calls == 0 {
		return 1
	}
	return deep(calls-1) + int(frame[calls])
}

//export in_go
func in_go(seed C.int) C.int {
	text := C.CString(fmt.Sprint("seed ", seed))
	defer C.free(unsafe.Pointer(text))
	return C.int(deep(int(seed)%60) + len(C.GoString(text)))
}

func main() {
	fmt.Printf("ready %d\n", os.Getpid())
	first := 0
	for {
		if _, err := os.Stat(os.Getenv("STOP")); err == nil && first != 0 {
			break
		}
		var group sync.WaitGroup
		results := make([]int, 30)
		for seed := range results {
			group.Add(1)
			go func(seed int) {
				defer group.Done()
				results[seed] = int(C.in_c(C.int(seed + 1)))
			}(seed)
		}
		group.Wait()
		sum := 1
		for _, result := range results {
			sum = sum*31 + result
		}
		if first != 0 && first != sum {
			fmt.Fprintln(os.Stderr, "survive: another result")
			os.Exit(1)
		}
		first = sum
	}
	fmt.Println("result", first)
	os.Exit(7)
}

// Goroutines whose stacks grow and move, channels, maps, and the garbage collector. No C.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
)

func deep(calls int) int {
	var frame [512]byte
	frame[calls] = byte(calls)
	if calls == 0 {
		return 1
	}
	return deep(calls-1) + int(frame[calls])
}

func work(seed int, out chan<- string) {
	words := map[string]int{}
	for i := 0; i < 500; i++ {
		words[fmt.Sprint(i*seed%211)] += i
	}
	keys := make([]string, 0, len(words))
	for key, value := range words {
		keys = append(keys, fmt.Sprint(key, value))
	}
	sort.Strings(keys)
	out <- fmt.Sprint(deep(seed%100), strings.Join(keys, ","))
}

func main() {
	fmt.Printf("ready %d\n", os.Getpid())
	first := ""
	for {
		if _, err := os.Stat(os.Getenv("STOP")); err == nil && first != "" {
			break
		}
		out := make(chan string)
		for seed := 1; seed <= 50; seed++ {
			go work(seed, out)
		}
		all := []string{}
		for range make([]int, 50) {
			all = append(all, <-out)
		}
		sort.Strings(all)
		result := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(all, ";"))))[:16]
		if first != "" && first != result {
			fmt.Fprintln(os.Stderr, "survive: another result")
			os.Exit(1)
		}
		first = result
		runtime.GC()
	}
	fmt.Println("result", first)
	os.Exit(7)
}

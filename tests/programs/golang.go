// Shows: Go, without libc: goroutines that move between threads, stacks that move, the runtime's own signals.
//
//	calls N   8 goroutines call main.Add N times each -> done add= bad=
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

//go:noinline
func Add(a, b uint64) uint64 {
	if a == 0 {
		return b
	}
	return a + b
}

//go:noinline
func deep(n uint64) uint64 {
	var pad [64]byte
	pad[n%64] = 1
	if n == 0 {
		return Add(uint64(pad[0]), 0) - 1
	}
	return deep(n-1) + uint64(pad[n%64]) - 1
}

func run(times uint64) (calls, bad uint64) {
	var group sync.WaitGroup
	for g := uint64(0); g < 8; g++ {
		group.Add(1)
		go func(g uint64) {
			defer group.Done()
			for i := uint64(0); i < times; i++ {
				if Add(i, g) != i+g {
					atomic.AddUint64(&bad, 1)
				}
			}
			if deep(500) != 0 { // grows, and so moves, the goroutine's stack
				atomic.AddUint64(&bad, 1)
			}
			atomic.AddUint64(&calls, times+1)
		}(g)
	}
	group.Wait()
	return calls, bad
}

func main() {
	fmt.Printf("ready pid=%d\n", os.Getpid())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		times, _ := strconv.ParseUint(words[1], 10, 64)
		calls, bad := run(times)
		fmt.Printf("done add=%d bad=%d\n", calls, bad)
	}
}

// Goroutines whose stacks grow, and so move, at ever deeper calls, with pointers into them; garbage is collected meanwhile. It
// counts the calls of its own functions and prints them. The number of rounds is the argument.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

var descents, visits, leaves atomic.Uint64

//go:noinline
func descend(depth int, above *[32]int) int {
	descents.Add(1)
	var frame [32]int
	for i := range frame {
		frame[i] = above[i] + depth
	}
	if depth == 0 {
		return leaf(&frame)
	}
	sum := descend(depth-1, &frame)
	// The stack may have moved: what is behind the pointer moved with it.
	return sum + frame[depth%32] - above[depth%32]
}

//go:noinline
func leaf(frame *[32]int) int {
	leaves.Add(1)
	sum := 0
	for _, value := range frame {
		sum += value
	}
	return sum
}

//go:noinline
func visit(seed int, wait *sync.WaitGroup, sums chan<- int) {
	visits.Add(1)
	defer wait.Done()
	var frame [32]int
	frame[0] = seed
	garbage := make([][]byte, 0)
	for i := 0; i < 16; i++ {
		garbage = append(garbage, make([]byte, 1024+seed))
	}
	sums <- descend(200+seed%300, &frame) + len(garbage)
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	total := 0
	for round := 0; round < rounds; round++ {
		var wait sync.WaitGroup
		sums := make(chan int, 16)
		for n := 0; n < 16; n++ {
			wait.Add(1)
			go visit(round+n, &wait, sums)
		}
		wait.Wait()
		close(sums)
		for sum := range sums {
			total += sum
		}
		if round%16 == 0 {
			runtime.GC()
		}
	}
	fmt.Println("total", total)
	fmt.Println("calls main.descend", descents.Load())
	fmt.Println("calls main.leaf", leaves.Load())
	fmt.Println("calls main.visit", visits.Load())
}

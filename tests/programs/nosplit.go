// Goroutines that come within some bytes of the end of their stacks, where other goroutines' stacks begin: a chain of functions
// that do not look for room (nosplit) may use all that the others leave to such chains (runtime/stack.go). Every goroutine looks
// at the end whether somebody wrote into its stack, and the number of those that find something is printed.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

//go:noinline
//go:nosplit
func leaf(p *uint64) { *p += 3 }

// As much as the linker lets a nosplit function with a call have.
//
//go:noinline
//go:nosplit
func deep(p *uint64) uint64 {
	var frame [94]uint64
	frame[*p&63] = *p
	leaf(p)
	return frame[(*p-3)&63]
}

// Two functions with frames of different sizes, so that deep begins at many distances from the end.
//
//go:noinline
func wide(n int, p *uint64) uint64 {
	var frame [9]uint64
	frame[n&7] = *p
	sum := deep(p)
	if n > 0 {
		sum += wide(n-1, p)
	}
	return sum + frame[(n+1)&7]
}

//go:noinline
func narrow(n int, p *uint64) uint64 {
	sum := deep(p)
	if n > 0 {
		sum += narrow(n-1, p)
	}
	return sum
}

// Gives the goroutine a stack of some size.
//
//go:noinline
func grow(n int) int {
	var frame [64]byte
	frame[n&63] = byte(n)
	if n == 0 {
		return int(frame[0])
	}
	return grow(n-1) + int(frame[(n+1)&63])
}

const mark = 0x5151515151515151

func victim(size int, ready chan<- bool, stop <-chan bool, found chan<- int) {
	var marks [64]uint64
	for i := range marks {
		marks[i] = mark + uint64(i)
	}
	grow(size)
	ready <- true
	<-stop
	bad := 0
	for i := range marks {
		if marks[i] != mark+uint64(i) {
			bad = 1
		}
	}
	found <- bad
}

func attacker(size, skew int, ready chan<- bool, stop <-chan bool, done *sync.WaitGroup) {
	grow(size)
	ready <- true
	<-stop
	var p uint64
	wide(size+skew, &p)
	narrow(2*size+skew, &p)
	done.Done()
}

func main() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(1)
	ready, attack, look := make(chan bool), make(chan bool), make(chan bool)
	found := make(chan int, 1000)
	var attackers sync.WaitGroup
	victims := 0
	for round := 0; round < 4; round++ {
		size := 10 << round
		for i := 0; i < 200; i++ {
			victims++
			go victim(size, ready, look, found)
			<-ready
			attackers.Add(1)
			go attacker(size, i%23, ready, attack, &attackers)
			<-ready
		}
	}
	close(attack)
	attackers.Wait()
	close(look)
	bad := 0
	for ; victims > 0; victims-- {
		bad += <-found
	}
	fmt.Println("bad", bad)
}

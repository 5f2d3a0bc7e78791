// An HTTP server and its clients in one process: what the runtime's preemption signals cost under a tracer.
// Each line on stdin is a number of milliseconds; the answer is how many requests were served in them.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const clients = 16

//go:noinline
func never(n int) int {
	return n*3 + 1
}

// Some work for each request, long enough to be preempted now and then.
func handle(answer http.ResponseWriter, _ *http.Request) {
	sum := 0
	for i := 0; i < 200000; i++ {
		sum += i ^ sum<<1
	}
	fmt.Fprintln(answer, sum)
}

func client(url string, until time.Time, served *int64) {
	for time.Now().Before(until) {
		answer, err := http.Get(url)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		atomic.AddInt64(served, 1)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	go http.Serve(listener, http.HandlerFunc(handle))
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = clients
	url := "http://" + listener.Addr().String() + "/"
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "never" {
			fmt.Println(never(1))
			continue
		}
		milliseconds, _ := strconv.Atoi(strings.TrimSpace(lines.Text()))
		until := time.Now().Add(time.Duration(milliseconds) * time.Millisecond)
		var served int64
		var group sync.WaitGroup
		for i := 0; i < clients; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				client(url, until, &served)
			}()
		}
		group.Wait()
		fmt.Println(served)
	}
}

// Forward passes connections on after a while: forward LISTEN UPSTREAM LATENCY.
// It stands for the proxy in tests of what leads to it.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"time"
)

func main() {
	latency, err := time.ParseDuration(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		in, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go pass(in, os.Args[2], latency)
	}
}

func pass(in net.Conn, upstream string, latency time.Duration) {
	defer in.Close()
	<-time.After(latency)
	out, err := net.Dial("tcp", upstream)
	if err != nil {
		log.Print(err)
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
}

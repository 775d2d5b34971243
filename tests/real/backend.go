// A backend on Go's net/http: backend ADDRESS, or backend ADDRESS PEM CA [1.2], which speaks TLS (up to that version), shows that
// certificate and wants one that CA has signed. The Action of a Call says how the answer is framed; its body is the payload.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(serve)}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		<-end
		// Finishes what it works on, closes what is idle.
		deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Shutdown(deadline)
		close(ended)
	}()
	listen := server.ListenAndServe
	if len(os.Args) > 2 {
		listen = secure(server, os.Args[2:])
	}
	if err := listen(); err != http.ErrServerClosed {
		fmt.Println(err)
		os.Exit(1)
	}
	<-ended
}

func secure(server *http.Server, arguments []string) func() error {
	ca, err := os.ReadFile(arguments[1])
	if err != nil {
		panic(err)
	}
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(ca)
	server.TLSConfig = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known}
	if len(arguments) > 2 {
		server.TLSConfig.MaxVersion = tls.VersionTLS12
	}
	return func() error { return server.ListenAndServeTLS(arguments[0], arguments[0]) }
}

func serve(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	parts := strings.Split(strings.TrimPrefix(request.URL.EscapedPath(), "/"), "/")
	switch parts[0] {
	case "connect":
		io.WriteString(response, `"ok"`)
	case "call":
		answer(response, parts[1], body)
	case "result", "error":
		origin := "answer"
		if request.Header.Get("X-Origin") != "" {
			origin = "no answer"
		}
		key := request.Header.Get("Idempotency-Key")
		fmt.Printf("%s of %s %s for %s (%s, key %s): %s\n", parts[0], parts[1], parts[3], parts[2], origin, key, body)
		response.WriteHeader(http.StatusNoContent)
	default:
		response.WriteHeader(http.StatusNoContent)
	}
}

func answer(response http.ResponseWriter, action string, body []byte) {
	switch action {
	case "Chunked":
		// Three chunks; the first is on its way before the others are written.
		for _, piece := range [][]byte{body[:1], body[1 : len(body)/2], body[len(body)/2:]} {
			response.Write(piece)
			response.(http.Flusher).Flush()
		}
	case "Close":
		response.Header().Set("Connection", "close")
		response.Write(body)
	case "UntilClose":
		connection, buffer, err := response.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		buffer.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
		buffer.Write(body)
		buffer.Flush()
	default:
		response.Header().Set("Content-Length", fmt.Sprint(len(body)))
		response.Write(body)
	}
}

// Streams a file to a server of the Vosk protocol the way Go programs do: a message, its answer, the next message.
//
//	go run vosk.go ADDRESS PCM_FILE     prints one JSON message a line
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	socket, _, err := websocket.DefaultDialer.Dial(os.Args[1], nil)
	check(err)
	defer socket.Close()
	pcm, err := os.ReadFile(os.Args[2])
	check(err)
	check(socket.WriteMessage(websocket.TextMessage, []byte(`{"config": {"sample_rate": 16000}}`)))
	for len(pcm) > 0 {
		size := min(8000, len(pcm))
		ask(socket, websocket.BinaryMessage, pcm[:size])
		pcm = pcm[size:]
	}
	ask(socket, websocket.TextMessage, []byte(`{"eof" : 1}`))
}

// ask sends a message and prints the one that answers it.
func ask(socket *websocket.Conn, kind int, message []byte) {
	check(socket.WriteMessage(kind, message))
	_, reply, err := socket.ReadMessage()
	check(err)
	var line bytes.Buffer
	check(json.Compact(&line, reply))
	fmt.Println(line.String())
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

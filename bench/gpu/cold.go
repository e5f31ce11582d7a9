package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cold measures how long a server takes from its start to the first token of a reply, with the model's file in the
// system's cache. The model is a checkpoint of noise that is written for this.
func cold(s *session) error {
	if !exists(s.eckart) {
		s.result.Skipped = "there is no program " + s.eckart
		return nil
	}
	s.describe()
	folder, err := os.MkdirTemp("", "eckart-cold-")
	if err != nil {
		return err
	}
	return errors.Join(s.coldStarts(folder), os.RemoveAll(folder))
}

func (s *session) coldStarts(folder string) error {
	r := newRandom()
	if err := writeCheckpoint(folder, r.source(s.coldModel, dense)); err != nil {
		return err
	}
	// A tokenizer of fewer ids than the model has will do: what is asked for is one token, whatever it is.
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join(s.model, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	var listening, first []time.Duration
	for range 3 {
		l, f, err := s.coldStart(folder)
		if err != nil {
			return err
		}
		listening, first = append(listening, l), append(first, f)
	}
	figure := func(column string, t timing) Figure {
		return Figure{Group: "Cold start", Row: s.coldModel.name, Column: column, Value: t.seconds, Unit: "s", Seconds: t.seconds, Spread: t.spread}
	}
	return errors.Join(s.add(figure("listening", median(listening, 1))), s.add(figure("first token", median(first, 1))))
}

// coldStart starts a server, has it generate a token and ends it. Both times are from its start.
func (s *session) coldStart(folder string) (listening, first time.Duration, err error) {
	cmd := exec.CommandContext(s.ctx, s.eckart, "serve", "--addr", "127.0.0.1:0", "--device", fmt.Sprintf("cuda:%d", s.ordinal),
		"--context", "1024", "--log-level", "error", "--served-model-name", "m", folder)
	cmd.Env = withoutLibrary(os.Environ())
	if s.library != "" {
		cmd.Env = append(cmd.Env, "ECKART_LIBCUDA="+s.library)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	var said strings.Builder
	url := ""
	for lines := bufio.NewScanner(stderr); url == "" && lines.Scan(); {
		url, _ = strings.CutPrefix(lines.Text(), "listening on ")
		if url == lines.Text() {
			url = ""
			fmt.Fprintln(&said, lines.Text())
		}
	}
	if url == "" {
		return 0, 0, fmt.Errorf("start the server: %w: %s", errors.Join(cmd.Wait(), s.ctx.Err()), brief(said.String(), 600))
	}
	listening = time.Since(begin)
	drained := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, stderr); close(drained) }()
	err = ask(url)
	first = time.Since(begin)
	stop := cmd.Process.Signal(syscall.SIGTERM)
	<-drained
	return listening, first, errors.Join(err, stop, cmd.Wait())
}

// ask has a server generate one token.
func ask(url string) error {
	body := `{"model": "m", "prompt": "Hello, world", "max_tokens": 1, "ignore_eos": true, "temperature": 0}`
	response, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server answers %d: %s", response.StatusCode, brief(string(text), 300))
	}
	return err
}

// writeCheckpoint writes a model as a checkpoint of dense matrices in BF16.
func writeCheckpoint(folder string, src *source) (err error) {
	if err := os.WriteFile(filepath.Join(folder, "config.json"), src.Config(), 0o644); err != nil {
		return err
	}
	type tensor struct {
		Type    string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, at := map[string]tensor{}, int64(0)
	for _, name := range src.Names() {
		shape, n := []int{src.dim}, int64(src.dim)
		if dims, ok := src.dims[name]; ok {
			shape, n = dims[:], int64(dims[0])*int64(dims[1])
		}
		header[name] = tensor{"BF16", shape, [2]int64{at, at + 2*n}}
		at += 2 * n
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	text = append(text, bytes.Repeat([]byte{' '}, (8-len(text)%8)%8)...)
	f, err := os.Create(filepath.Join(folder, "model.safetensors"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return err
	}
	for _, name := range src.Names() {
		dims, ok := src.dims[name]
		if !ok { // gains of 1
			if _, err := f.Write(bytes.Repeat([]byte{0x80, 0x3f}, src.dim)); err != nil {
				return err
			}
			continue
		}
		w, err := src.Weight(name)
		if err != nil {
			return err
		}
		rows := max(1, min(dims[0], 1<<24/(2*dims[1])))
		buf := make([]byte, 2*rows*dims[1])
		for row := 0; row < dims[0]; row += rows {
			part := buf[:2*min(rows, dims[0]-row)*dims[1]]
			if err := w.Parts()[0].Read(part, row); err != nil {
				return err
			}
			if _, err := f.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

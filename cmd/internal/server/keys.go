package server

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// maxKeyFile bounds the file of API keys.
const maxKeyFile = 1 << 20

// ReadKeys reads a file of API keys: one a line, lines that are empty or begin with # left out. Without a file there
// are none; a file without a key is an error, for the server would be open to all.
func ReadKeys(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read --api-key-file: %w", err)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("read --api-key-file: %s has %d bytes, and the limit is %d", file, info.Size(), maxKeyFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --api-key-file: %w", err)
	}
	var keys []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if key := strings.TrimSpace(lines.Text()); key != "" && !strings.HasPrefix(key, "#") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read --api-key-file: %s holds no key", file)
	}
	return keys, nil
}

// Package eckart holds the text of the project: its documentation and a part of its source, for a calibration of models that
// are too large to write a text of their own.
package eckart

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed README.md ARCHITECTURE.md docs/*.md docs/decisions/*.md api/openai/*.go layers/*.go model/*.go runtime/*.go
var files embed.FS

// Text returns the documentation and the source, one file behind another.
func Text() (string, error) {
	var text strings.Builder
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		text.Write(content)
		text.WriteByte('\n')
		return nil
	})
	return text.String(), err
}

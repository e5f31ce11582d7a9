package command

import (
	"encoding/json"
	"io"
)

// WriteJSON writes v as indented JSON, for people and programs.
func WriteJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

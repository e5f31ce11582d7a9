package tokenizer

import (
	"encoding/json"
	"fmt"
)

// templatePiece is a piece of a template: exactly one of the two is set.
type templatePiece struct {
	SpecialToken *struct {
		ID     string
		TypeID int64 `json:"type_id"`
	}
	Sequence *struct {
		ID     string
		TypeID int64 `json:"type_id"`
	}
}

// templateToken says which ids stand for a special token of a template.
type templateToken struct {
	ID     string
	IDs    []int64
	Tokens []string
}

// readPostProcessor sets what frames a single sequence. Pairs of sequences are not encoded here, so that their templates are of no
// interest.
func (f *file) readPostProcessor(t *Tokenizer, raw json.RawMessage) error {
	kind, err := kindOf(raw)
	if err != nil || kind == "" {
		return err
	}
	frame := func(into *[]int32, ids ...int64) error {
		for _, id := range ids {
			if id < 0 || id >= int64(len(f.tokens)) || !f.present[id] {
				return fmt.Errorf("read %s: the id %d is not in the vocabulary", kind, id)
			}
			*into = append(*into, int32(id))
		}
		return nil
	}
	switch kind {
	case "Sequence":
		var v struct {
			Type       string
			Processors []json.RawMessage
		}
		if err := f.nested(raw, &v); err != nil {
			return err
		}
		defer f.leave()
		for _, raw := range v.Processors {
			framed := t.prefix != nil || t.suffix != nil
			if inner, err := kindOf(raw); err == nil && framed && inner != "ByteLevel" {
				return fmt.Errorf("a %s behind another framing post-processor is not supported", inner)
			}
			if err := f.readPostProcessor(t, raw); err != nil {
				return err
			}
		}
		return nil
	case "ByteLevel":
		return strict(raw, new(byteLevelFile)) // it trims offsets
	case "TemplateProcessing":
		var v struct {
			Type          string
			Single        []templatePiece
			Pair          json.RawMessage
			SpecialTokens map[string]templateToken `json:"special_tokens"`
		}
		if err := strict(raw, &v); err != nil {
			return err
		}
		texts, into := 0, &t.prefix
		for _, p := range v.Single {
			switch {
			case (p.Sequence == nil) == (p.SpecialToken == nil):
				return fmt.Errorf("read %s: a piece is neither Sequence nor SpecialToken", kind)
			case p.Sequence != nil:
				if p.Sequence.ID != "A" {
					return fmt.Errorf("read %s: the template of a single sequence names sequence %.60q", kind, p.Sequence.ID)
				}
				texts, into = texts+1, &t.suffix
			default:
				token, ok := v.SpecialTokens[p.SpecialToken.ID]
				if !ok {
					return fmt.Errorf("read %s: special_tokens has no %.60q", kind, p.SpecialToken.ID)
				}
				if err := frame(into, token.IDs...); err != nil {
					return err
				}
			}
		}
		if texts != 1 {
			return fmt.Errorf("read %s: the template of a single sequence names it %d times", kind, texts)
		}
		return nil
	case "RobertaProcessing", "BertProcessing":
		var v struct {
			Type           string
			Sep, Cls       []any
			TrimOffsets    bool `json:"trim_offsets"`
			AddPrefixSpace bool `json:"add_prefix_space"`
		}
		if err := strict(raw, &v); err != nil {
			return err
		}
		for _, side := range []struct {
			token []any
			into  *[]int32
		}{{v.Cls, &t.prefix}, {v.Sep, &t.suffix}} {
			if len(side.token) != 2 {
				return fmt.Errorf("read %s: sep and cls are not a token and its id", kind)
			}
			id, ok := side.token[1].(float64)
			if !ok || id != float64(int64(id)) {
				return fmt.Errorf("read %s: sep and cls are not a token and its id", kind)
			}
			if err := frame(side.into, int64(id)); err != nil {
				return err
			}
		}
		return nil
	}
	return unknown(kind)
}

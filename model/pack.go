package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"eckart/layers"
	"eckart/model/packed"
)

// CreatePacked prepares the writing of a compressed checkpoint into dir: the matrices that content.Stored names, by their
// modules, come from the caller; all else is copied from the checkpoint behind src, byte for byte. CreatePacked fills in
// what of content follows from that: the config, which is src's, the tensors that are kept, and the digest of the source.
func CreatePacked(ctx context.Context, dir string, src Source, content packed.Content) (*packed.Writer, error) {
	s, ok := innermost(src).(*checkpointSource)
	if !ok {
		return nil, fmt.Errorf("write model %s: its source is no checkpoint", dir)
	}
	content.Config, content.Base = src.Config(), nil
	replaced := map[string]bool{}
	for module := range content.Stored {
		name := module + ".weight"
		if _, ok := slices.BinarySearch(s.names, name); !ok {
			return nil, fmt.Errorf("write model %s: the plan names %s, which the model does not have", dir, module)
		}
		for _, t := range s.tensors(name) {
			replaced[t] = true
		}
	}
	// What was compressed before and stays is described in the metadata again.
	stored := maps.Clone(content.Stored)
	for module, form := range s.packed.Stored {
		if _, ok := stored[module]; !ok {
			stored[module] = form
		}
	}
	content.Stored, content.Keep = stored, nil
	for _, t := range s.c.Names() {
		if !replaced[t] {
			content.Keep = append(content.Keep, t)
		}
	}
	for _, name := range s.names {
		if t := s.quantized.Tensors(name); t != nil && !replaced[t[0]] {
			content.Base = s.quantized.Settings()
		}
	}
	var err error
	if content.Source, err = s.c.Digest(); err != nil {
		return nil, fmt.Errorf("write model %s: %w", dir, err)
	}
	return packed.Create(ctx, dir, s.c, content)
}

// tensors returns the tensors that the weight name is stored as.
func (s *checkpointSource) tensors(name string) []string {
	if t := s.packed.Tensors(name); t != nil {
		return t
	}
	if t := s.factored.Tensors(name); t != nil {
		return t
	}
	if t := s.quantized.Tensors(name); t != nil {
		return t
	}
	return []string{s.factored.Tensor(name)}
}

// Pack writes the model that src is into dir: the given matrices, named by their modules, as src gives them, and all else
// as the checkpoint behind it has it. It goes on where a run that crashed has stopped; one that fails, or whose ctx is
// done, leaves nothing. content is as for CreatePacked, but for Stored, which Pack fills in.
func Pack(ctx context.Context, dir string, src Source, modules []string, content packed.Content) error {
	weights := map[string]layers.Weight{}
	var err error
	for _, module := range modules {
		if weights[module], err = src.Weight(module + ".weight"); err != nil {
			return fmt.Errorf("write model %s: %s: %w", dir, module, err)
		}
	}
	if content.Stored, err = packed.DescribeAll(weights); err != nil {
		return fmt.Errorf("write model %s: %w", dir, err)
	}
	w, err := CreatePacked(ctx, dir, src, content)
	if err != nil {
		return err
	}
	for _, module := range modules {
		if err == nil && !w.Written(module) {
			err = w.Write(ctx, module, weights[module])
		}
	}
	if err == nil {
		err = w.Commit()
	}
	return errors.Join(err, w.Abort())
}

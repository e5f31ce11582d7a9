// Package compress makes a model smaller while it is loaded: it surveys what the matrices of a model are multiplied by,
// plans what each becomes, and walks the blocks in order to make it so.
//
// What calibration knows of a model are Statistics: second moments and means of the inputs of matrices (sites), and how
// much each block changes what passes it. Survey collects them in one pass over a text, block by block, with the weights
// of one block in memory.
package compress

import (
	"fmt"
	"maps"

	"eckart/internal/linalg"
	"eckart/model"
)

// Where the text of a calibration comes from.
const (
	FromFile    = "file"    // that the user names
	FromSelf    = "self"    // written by the model
	FromProject = "project" // documentation and source of this project, for a model that is too large to write
	FromNone    = "none"    // there is no text: the weights alone decide
)

// Moments are the statistics of the input x of a site over a number of tokens.
type Moments struct {
	Tokens int
	Chosen int // tokens whose products Gram holds: all, or those that were sampled
	// Gram is the sum of xᵀ·x over all tokens (in, in), symmetric. Products are summed in F32 over at most batchTokens
	// tokens and from there on in float64; the sum is rounded to F32, in which it is kept on disk, so that statistics that
	// were read are those that were written.
	Gram linalg.Matrix
	Mean []float64 // of x, per column
}

// Statistics are what calibration knows of a model.
type Statistics struct {
	Tokens    int
	Sites     map[string]*Moments // by model.Site.Name
	Influence []float64           // per block: mean over tokens of 1 - cos(hidden state before it, after it); ShortGPT (Men et al. 2024, equation 1)
	Source    string              // FromFile, FromSelf, FromProject, FromNone
	Digest    string              // of the model, the text and the settings; what they are found by on disk
}

// BlockStatistics are the part of Statistics that one block gives.
type BlockStatistics struct {
	Layer     int
	Influence float64
	Sites     map[string]*Moments
}

// add includes the statistics of the next block.
func (s *Statistics) add(b BlockStatistics) {
	maps.Copy(s.Sites, b.Sites)
	s.Influence = append(s.Influence, b.Influence)
}

// Check returns an error unless s has the moments of all sites of w's model, and of no others.
func (s *Statistics) Check(w *model.Walker) error {
	n := 0
	for i := range w.Layers() {
		sites, err := w.Sites(i)
		if err != nil {
			return err
		}
		for _, site := range sites {
			m := s.Sites[site.Name]
			switch {
			case m == nil:
				return fmt.Errorf("check statistics: they are of another model: there is nothing about %s", site.Name)
			case m.Gram.Rows != site.In:
				return fmt.Errorf("check statistics: they are of another model: %s has %d columns, want %d", site.Name, m.Gram.Rows, site.In)
			}
			n++
		}
	}
	if n != len(s.Sites) || len(s.Influence) != w.Layers() {
		return fmt.Errorf("check statistics: they are of another model: %d sites and %d blocks, want %d and %d", len(s.Sites), len(s.Influence), n, w.Layers())
	}
	return nil
}

// Moments implements Inputs.
func (s *Statistics) Moments(name string) (*Moments, error) {
	m, ok := s.Sites[name]
	if !ok {
		return nil, fmt.Errorf("read statistics: there are none of %s", name)
	}
	return m, nil
}

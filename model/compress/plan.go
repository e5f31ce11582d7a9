package compress

import (
	"encoding/json"
	"fmt"
	"strings"

	"eckart/layers"
	"eckart/model"
)

// A Plan says how every matrix of a model's blocks is stored. It holds every decision of kind, rank, bits and group: what
// comes after it chooses nothing. A person may edit it; Check says whether it is one for a model.
type Plan struct {
	Version     int             `json:"version"`
	Model       string          `json:"model"`       // digest of the checkpoint
	Policy      string          `json:"policy"`      // what was asked for, in words
	Calibration string          `json:"calibration"` // digest of the statistics; empty for none
	Modules     []PlannedModule `json:"modules"`     // in the order of the model
	Bytes       int64           `json:"bytes"`       // of all of them
	Loss        float64         `json:"loss"`        // the sum of sensitivity times error: nats of KL where sensitivities were measured
}

// A PlannedModule is a matrix with its choice.
type PlannedModule struct {
	Name string `json:"module"` // without ".weight"
	Choice
	Bytes       int64   `json:"bytes"`
	Error       float64 `json:"error"`       // relative squared error that is expected, on inputs like those of the calibration
	Sensitivity float64 `json:"sensitivity"` // what a unit of error costs; 1 where nothing was measured
}

// planVersion is the version of the plan's fields.
const planVersion = 1

// Keep returns the plan by which all matrices stay as they are stored. Model and Policy are left to the caller.
func Keep(w *model.Walker) (*Plan, error) {
	p := &Plan{Version: planVersion}
	err := eachWeight(w, func(_ model.Site, sw model.SiteWeight) error {
		weight, err := w.Source().Weight(sw.Name)
		if err != nil {
			return err
		}
		m := PlannedModule{Name: moduleName(sw.Name), Choice: Choice{Form: FormKeep}, Bytes: layers.StoredBytes(weight), Sensitivity: 1}
		p.Modules = append(p.Modules, m)
		p.Bytes += m.Bytes
		return nil
	})
	return p, err
}

// Encode returns the plan as indented JSON.
func (p *Plan) Encode() ([]byte, error) { return json.MarshalIndent(p, "", "  ") }

// ParsePlan reads what Encode wrote, edited or not.
func ParsePlan(text []byte) (*Plan, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	p := new(Plan)
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if p.Version != planVersion {
		return nil, fmt.Errorf("read plan: version %d, want %d", p.Version, planVersion)
	}
	for _, m := range p.Modules {
		if m.Form == FormKeep {
			continue
		}
		if _, err := formOf(m.Choice); err != nil {
			return nil, fmt.Errorf("read plan: %s: %w", m.Name, err)
		}
	}
	return p, nil
}

// Check returns an error that says why the plan is none for the model that w walks: it was made for another, lists a
// matrix that it does not have or none for one that it has, or a choice that no matrix of that shape can have. It sets
// the plan's bytes, which edits may have changed. digest is that of the model.
func (p *Plan) Check(w *model.Walker, digest string) error {
	if p.Model != digest {
		return fmt.Errorf("read plan: it was made for another model (%.12s, this one is %.12s)", p.Model, digest)
	}
	planned := map[string]*PlannedModule{}
	for i := range p.Modules {
		m := &p.Modules[i]
		if planned[m.Name] != nil {
			return fmt.Errorf("read plan: %s is there twice", m.Name)
		}
		planned[m.Name] = m
	}
	p.Bytes = 0
	err := eachSite(w, func(s model.Site) error {
		for _, sw := range s.Weights {
			if planned[moduleName(sw.Name)] == nil {
				return fmt.Errorf("read plan: %s is missing", moduleName(sw.Name))
			}
		}
		sizes, err := footprints(w.Source(), s, planned)
		if err != nil {
			return fmt.Errorf("read plan: %w", err)
		}
		for i, sw := range s.Weights {
			m := planned[moduleName(sw.Name)]
			m.Bytes = sizes[i].Bytes()
			p.Bytes += m.Bytes
		}
		for _, sw := range s.Weights {
			delete(planned, moduleName(sw.Name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name := range planned {
		return fmt.Errorf("read plan: the model has no matrix %s", name)
	}
	return nil
}

// footprints returns what is stored of each matrix of a site of src: what neighbours share, of the first. Joint factors must
// be those of the whole site.
func footprints(src model.Source, s model.Site, planned map[string]*PlannedModule) ([]Footprint, error) {
	sizes := make([]Footprint, len(s.Weights))
	module := func(i int) *PlannedModule { return planned[moduleName(s.Weights[i].Name)] }
	choice := func(i int) Choice { return module(i).Choice }
	for i, sw := range s.Weights {
		m := module(i)
		if first := module(0); (m.Form == formJoint || first.Form == formJoint) && m.Choice != first.Choice {
			return nil, fmt.Errorf("%s is %s and %s is %s: they read one input, and joint factors are those of all its matrices", first.Name, first.Choice, m.Name, m.Choice)
		}
		var err error
		if sizes[i], err = m.footprint(src, s, sw); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		if shares(i, choice) {
			sizes[i] = sizes[i].Own()
		}
	}
	return sizes, nil
}

// footprint returns what is stored of m, a weight of src.
func (m *PlannedModule) footprint(src model.Source, s model.Site, sw model.SiteWeight) (Footprint, error) {
	if m.Form == FormKeep {
		w, err := src.Weight(sw.Name)
		if err != nil {
			return Footprint{}, err
		}
		return FootprintOf(w), nil
	}
	f, err := formOf(m.Choice)
	if err != nil {
		return Footprint{}, err
	}
	return f.Footprint(sw.Out, s.In, m.Choice)
}

// Seconds returns the time that all matrices of the blocks are expected to take for a token, as they are stored in the model
// of w and as the plan has them.
func (p *Plan) Seconds(w *model.Walker, c Costs) (before, after float64, err error) {
	planned := map[string]*PlannedModule{}
	for i := range p.Modules {
		planned[p.Modules[i].Name] = &p.Modules[i]
	}
	err = eachSite(w, func(s model.Site) error {
		sizes, err := footprints(w.Source(), s, planned)
		if err != nil {
			return err
		}
		for i, sw := range s.Weights {
			weight, err := w.Source().Weight(sw.Name)
			if err != nil {
				return err
			}
			before += c.Seconds(FootprintOf(weight))
			after += c.Seconds(sizes[i])
		}
		return nil
	})
	return before, after, err
}

// eachWeight calls use for every matrix of the blocks, in order.
func eachWeight(w *model.Walker, use func(model.Site, model.SiteWeight) error) error {
	return eachSite(w, func(s model.Site) error {
		for _, sw := range s.Weights {
			if err := use(s, sw); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachSite calls use for every input that matrices of the blocks read, in order.
func eachSite(w *model.Walker, use func(model.Site) error) error {
	for i := range w.Layers() {
		sites, err := w.Sites(i)
		if err != nil {
			return err
		}
		for _, s := range sites {
			if err := use(s); err != nil {
				return err
			}
		}
	}
	return nil
}

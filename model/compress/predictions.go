package compress

import (
	"fmt"
	"math"
	"slices"

	"eckart/model"
)

// A Prediction is what a Planner predicted for a matrix: what is kept, so that the next plan for the model, whatever its budget,
// need not predict again.
type Prediction struct {
	Module  string    `json:"module"`
	Choices []Choice  `json:"choices"`
	Errors  []float64 `json:"errors"` // relative and squared, one for each choice
}

// Predictions returns what the planner predicted, in the order of the model.
func (p *Planner) Predictions() []Prediction {
	var all []Prediction
	for _, m := range p.matrices {
		all = append(all, Prediction{m.name, m.choices, m.errors})
	}
	return all
}

// RecallPlanner returns the planner that NewPlanner would return, from predictions that it made earlier. ok is false where
// they are not about the choices that there are for this model. statistics says whether inputs were known.
func RecallPlanner(w *model.Walker, predictions []Prediction, statistics bool, sensitivities map[string]float64, space Space) (p *Planner, ok bool, err error) {
	p, ok = &Planner{space: space}, true
	err = eachWeight(w, func(_ model.Site, sw model.SiteWeight) error {
		weight, err := w.Source().Weight(sw.Name)
		if err != nil {
			return err
		}
		c, err := space.candidates(sw.Name, weight, statistics, sensitivityOf(sensitivities, sw.Name))
		if err != nil {
			return fmt.Errorf("plan compression of %s: %w", moduleName(sw.Name), err)
		}
		i := len(p.matrices)
		if i >= len(predictions) || !predictions[i].of(c) {
			ok = false
			return nil
		}
		c.errors = predictions[i].Errors
		p.matrices = append(p.matrices, c)
		return nil
	})
	return p, ok && err == nil && len(predictions) == len(p.matrices), err
}

// of reports whether p is about c.
func (p *Prediction) of(c candidates) bool {
	finite := func(e float64) bool { return e >= 0 && !math.IsInf(e, 0) }
	return p.Module == c.name && slices.Equal(p.Choices, c.choices) && len(p.Errors) == len(p.Choices) &&
		!slices.ContainsFunc(p.Errors, func(e float64) bool { return !finite(e) })
}

// sensitivityOf returns that of a weight, 1 where nothing was measured.
func sensitivityOf(sensitivities map[string]float64, weight string) float64 {
	if s, ok := sensitivities[weight]; ok {
		return s
	}
	return 1
}

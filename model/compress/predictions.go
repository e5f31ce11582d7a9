package compress

// Predictions are errors that a Planner predicted, relative and squared: by module, and by choice as Choice.String writes it.
// Kept, they spare the next plan for the model, whatever its budget, to predict again.
type Predictions map[string]map[string]float64

// Count returns how many there are.
func (p Predictions) Count() int {
	n := 0
	for _, of := range p {
		n += len(of)
	}
	return n
}

// fill sets the errors of outcomes for a module to what was predicted, or predicts them, for which load reads the module.
func (p Predictions) fill(module string, outcomes []outcome, load func() (*Target, error)) error {
	known := p[module]
	if known == nil {
		known = map[string]float64{}
	}
	var t *Target
	for i := range outcomes {
		o := &outcomes[i]
		e, ok := known[o.String()]
		if o.Form == FormKeep || ok && e >= 0 {
			o.err = e
			continue
		}
		if t == nil {
			var err error
			if t, err = load(); err != nil {
				return err
			}
		}
		if err := o.predict(t); err != nil {
			return err
		}
		known[o.String()] = o.err
	}
	if p != nil {
		p[module] = known
	}
	return nil
}

package compress

// Predictions are errors that a Planner predicted, relative and squared: by module, and by choice as Choice.String writes it.
// Kept, they spare the next plan for the model, whatever its budget, to predict again.
type Predictions map[string]map[string]float64

// of returns the predictions for a module, to be read and written; nil for nil.
func (p Predictions) of(module string) map[string]float64 {
	if p != nil && p[module] == nil {
		p[module] = map[string]float64{}
	}
	return p[module]
}

// Count returns how many there are.
func (p Predictions) Count() int {
	n := 0
	for _, of := range p {
		n += len(of)
	}
	return n
}

// A forecast predicts what follows from choices for a matrix (out, in).
type forecast struct {
	module  string
	out, in int
	known   Predictions
	load    func() (*Target, error) // reads the matrix, once
}

// footprint returns what is stored of the matrix as c says.
func (f forecast) footprint(c Choice) (Footprint, error) {
	form, err := formOf(c)
	if err != nil {
		return Footprint{}, err
	}
	return form.Footprint(f.out, f.in, c)
}

// outcome returns what follows from a choice.
func (f forecast) outcome(c Choice) (outcome, error) {
	o := outcome{Choice: c}
	var err error
	if o.size, err = f.footprint(c); err != nil {
		return o, err
	}
	known := f.known.of(f.module)
	var ok bool
	if o.err, ok = known[c.String()]; ok && o.err >= 0 {
		return o, nil
	}
	form, err := formOf(c)
	if err != nil {
		return o, err
	}
	t, err := f.load()
	if err != nil {
		return o, err
	}
	if o.err, err = form.Predict(t, c); err == nil && known != nil {
		known[c.String()] = o.err
	}
	return o, err
}

package compress

import (
	"eckart/layers"
	"eckart/model"
)

// A Sum is what the matrices of a model's blocks come to.
type Sum struct {
	Bytes, Elements int64
	Matrices        int
}

// Matrices sums up the matrices of the blocks as they are stored.
func Matrices(w *model.Walker) (Sum, error) {
	var sum Sum
	err := eachWeight(w, func(s model.Site, sw model.SiteWeight) error {
		weight, err := w.Source().Weight(sw.Name)
		if err != nil {
			return err
		}
		sum.Bytes += layers.StoredBytes(weight)
		sum.Matrices++
		sum.Elements += int64(sw.Out) * int64(s.In)
		return nil
	})
	return sum, err
}

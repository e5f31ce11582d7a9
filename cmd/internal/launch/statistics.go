package launch

import (
	"fmt"
	"os"
	"path/filepath"

	"eckart/model/compress"
)

// StatisticsStore returns where statistics of calibrations are kept: in the user's cache directory.
func StatisticsStore() (compress.Store, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return compress.Store{}, fmt.Errorf("find the cache directory: %w", err)
	}
	return compress.Store{Dir: filepath.Join(dir, "eckart", "statistics"), Limit: compress.DefaultLimit}, nil
}
